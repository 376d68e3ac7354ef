#!/usr/bin/env php
<?php

declare(strict_types=1);

// The release step: runs once per deploy, before traffic, and again without harm.

namespace Guestbook;

use PDOException;

require __DIR__ . '/../src/autoload.php';

try {
    migrate(Environment::database());
} catch (Unavailable | PDOException $error) {
    fwrite(STDERR, "migrate: {$error->getMessage()}\n");
    exit(1);
}

function migrate(Database $database): void
{
    // Two deploys at once: the second waits for the first.
    if ((int) $database->readCurrent("SELECT GET_LOCK('guestbook.migrate', 9) AS got")[0]['got'] !== 1) {
        throw new Unavailable('another migration has been running for more than 9 s');
    }
    $database->write(
        'CREATE TABLE IF NOT EXISTS migrations (
           name VARCHAR(100) CHARACTER SET ascii NOT NULL PRIMARY KEY,
           applied_at DATETIME NOT NULL DEFAULT CURRENT_TIMESTAMP
         ) ENGINE=InnoDB',
    );
    $applied = array_column($database->readCurrent('SELECT name FROM migrations'), 'name');
    foreach (glob(__DIR__ . '/../migrations/*.sql') ?: [] as $file) {
        $name = basename($file);
        if (in_array($name, $applied, true)) {
            continue;
        }
        $database->write((string) file_get_contents($file));
        $database->write('INSERT INTO migrations (name) VALUES (?)', $name);
        echo "migrate: applied $name\n";
    }
    $database->readCurrent("SELECT RELEASE_LOCK('guestbook.migrate')");
    echo "migrate: done\n";
}
