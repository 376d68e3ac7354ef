<?php

/**
 * Health of this web server: PHP runs and the database takes writes. WordPress has no such page of its own, and its other
 * pages answer with a redirect until it is installed.
 */

mysqli_report(MYSQLI_REPORT_OFF);
$database = mysqli_init();
$database->options(MYSQLI_OPT_CONNECT_TIMEOUT, 2);
$connected = @$database->real_connect(
    (string) getenv('DB_HOST'),
    (string) getenv('DB_USER'),
    (string) getenv('DB_PASSWORD'),
    (string) getenv('DB_NAME'),
    (int) getenv('DB_PORT'),
);
$row = $connected ? $database->query('SELECT @@global.read_only')->fetch_row() : null;
$state = match (true) {
    !$connected => 'unreachable',
    (int) $row[0] === 1 => 'read-only',
    default => 'ok',
};

http_response_code($state === 'ok' ? 200 : 503);
header('Content-Type: application/json');
header('Cache-Control: no-store');
echo json_encode([
    'status' => $state === 'ok' ? 'ok' : 'failing',
    'failing' => $state === 'ok' ? [] : ['database'],
    'checks' => ['database' => $state],
    'server' => getenv('LAMPSTAND_SERVER') ?: gethostname(),
    'release' => getenv('APP_RELEASE') ?: '',
]), "\n";
