#!/usr/bin/env php
<?php

declare(strict_types=1);

// A background worker: counts an author's messages afresh after each new one. SIGTERM ends it between two jobs.

namespace Guestbook;

require __DIR__ . '/../src/autoload.php';

$stop = false;
pcntl_async_signals(true);
foreach ([SIGTERM, SIGINT] as $signal) {
    pcntl_signal($signal, static function () use (&$stop): void {
        $stop = true;
    });
}

$messages = new Messages(Environment::database());
$jobs = Environment::jobs();
$recovered = false;

while (!$stop) {
    try {
        if (!$recovered) {
            fprintf(STDERR, "worker: ready, %d unfinished jobs taken up again\n", $jobs->recover());
            $recovered = true;
        }
        $author = $jobs->take();
        if ($author !== null) {
            $messages->countAuthor($author);
            $jobs->finish($author);
            fprintf(STDERR, "worker: counted %s\n", json_encode($author));
        }
    } catch (Unavailable $error) {
        // A failover is under way: what was in hand is taken up again when the server is back.
        fprintf(STDERR, "worker: %s\n", $error->getMessage());
        $recovered = false;
        sleep(1);
    }
}
fwrite(STDERR, "worker: stopped\n");
