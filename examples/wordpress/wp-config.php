<?php

/**
 * WordPress, configured by the twelve-factor variables that Lampstand gives to every application.
 *
 * WordPress finds this file one folder above its own, outside the document root.
 */

$env = static function (string $name, string $default = ''): string {
    $value = getenv($name);

    return $value === false || $value === '' ? $default : $value;
};

// The writer's door. A failover is a lost connection, and WordPress connects again by itself.
define('DB_NAME', $env('DB_NAME', 'wordpress'));
define('DB_USER', $env('DB_USER', 'wordpress'));
define('DB_PASSWORD', $env('DB_PASSWORD'));
define('DB_HOST', $env('DB_HOST', '127.0.0.1') . ':' . $env('DB_PORT', '3306'));
define('DB_CHARSET', 'utf8mb4');
define('DB_COLLATE', '');
$table_prefix = $env('WP_TABLE_PREFIX', 'wp_');

// The same on every web server, so that a login made at one counts at all of them, and the same after a deploy.
$secret = $env('APP_SECRET');
if (strlen($secret) < 32) {
    error_log('wp-config.php: APP_SECRET is missing or shorter than 32 characters');
    http_response_code(500);
    exit(1);
}
foreach (['AUTH', 'SECURE_AUTH', 'LOGGED_IN', 'NONCE'] as $purpose) {
    define("{$purpose}_KEY", hash_hmac('sha512', "{$purpose}_KEY", $secret));
    define("{$purpose}_SALT", hash_hmac('sha512', "{$purpose}_SALT", $secret));
}

// Visitors may come by https to the edge while the web server hears http: without this WordPress would redirect for ever.
if (strtolower($_SERVER['HTTP_X_FORWARDED_PROTO'] ?? '') === 'https') {
    $_SERVER['HTTPS'] = 'on';
}

// One public address; but on a developer's machine every door (each edge, each web server) is good.
$host = $_SERVER['HTTP_HOST'] ?? '';
$scheme = in_array(strtolower($_SERVER['HTTPS'] ?? ''), ['', 'off'], true) ? 'http' : 'https';
$local = preg_match('/\A(localhost|127\.0\.0\.1|\[::1\])(:[0-9]{1,5})?\z/', $host) === 1;
$url = $local ? "$scheme://$host" : rtrim($env('APP_URL', 'http://localhost'), '/');
define('WP_HOME', $url);
define('WP_SITEURL', $url);
define('FORCE_SSL_ADMIN', str_starts_with($url, 'https:'));

// A release never changes: code, plug-ins and themes come with the next one, not from wp-admin.
define('DISALLOW_FILE_MODS', true);
define('AUTOMATIC_UPDATER_DISABLED', true);

// The job `cron` of lampstand.yaml runs it, on one place, instead of visitors' requests.
define('DISABLE_WP_CRON', true);

// Without plug-ins and updates there is nobody to call; a server without a way out would wait for each try.
define('WP_HTTP_BLOCK_EXTERNAL', $env('WP_HTTP_BLOCK_EXTERNAL', 'true') === 'true');

// The edges keep pages for five minutes; with the plug-in Proxy Cache Purge a change is seen at once.
if ($env('LAMPSTAND_EDGES') !== '') {
    define('VHP_VARNISH_IP', $env('LAMPSTAND_EDGES'));
    define('VHP_VARNISH_EXTRA_PURGE_HEADER', 'X-Purge-Token: ' . $env('LAMPSTAND_PURGE_TOKEN'));
    define('WP_ACCESSIBLE_HOSTS', preg_replace('/:[0-9]+/', '', $env('LAMPSTAND_EDGES')));
}

define('WP_ENVIRONMENT_TYPE', $env('WP_ENVIRONMENT_TYPE', 'production'));
define('WP_DEBUG', false);

if (!defined('ABSPATH')) {
    define('ABSPATH', __DIR__ . '/public/');
}

unset($env, $secret, $purpose, $host, $scheme, $local, $url);

require_once ABSPATH . 'wp-settings.php';
