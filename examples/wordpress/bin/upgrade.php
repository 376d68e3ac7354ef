<?php

/**
 * The release step: brings the tables of an installed WordPress to this release's version, before it gets traffic. The
 * first installation is done in the browser (/wp-admin/install.php).
 */

define('WP_INSTALLING', true);
require dirname(__DIR__) . '/public/wp-load.php';
require ABSPATH . 'wp-admin/includes/upgrade.php';

if (!is_blog_installed()) {
    echo "upgrade: not installed yet; open /wp-admin/install.php\n";
    exit(0);
}
$before = get_option('db_version');
wp_upgrade();
wp_cache_flush();
printf("upgrade: tables of version %s, now %s\n", $before, get_option('db_version'));
