<?php

declare(strict_types=1);

namespace Guestbook;

require __DIR__ . '/../src/autoload.php';

if (PHP_SAPI === 'cli-server' && is_file(__DIR__ . parse_url($_SERVER['REQUEST_URI'], PHP_URL_PATH))) {
    return false; // `php -S`: the file as it is
}

ini_set('display_errors', '0');
ini_set('log_errors', '1');

$root = dirname(__DIR__);
$database = Environment::database();
(new App(
    Request::fromGlobals(),
    new View($root),
    new Messages($database),
    new Users($database),
    new Pictures("$root/public/uploads"),
    new Visits(Environment::cache()),
    Environment::jobs(),
    $database,
))->handle()->send();
