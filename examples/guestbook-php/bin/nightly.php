#!/usr/bin/env php
<?php

declare(strict_types=1);

// A scheduled job: deletes old messages, then pictures that no message shows any more.

namespace Guestbook;

require __DIR__ . '/../src/autoload.php';

$messages = new Messages(Environment::database());
$pictures = new Pictures(dirname(__DIR__) . '/public/uploads');
$days = max(1, (int) Environment::get('GUESTBOOK_KEEP_DAYS', '365'));

printf(
    "nightly: deleted %d messages older than %d days and %d unused pictures\n",
    $messages->prune($days),
    $days,
    $pictures->prune($messages->usesPicture(...)),
);
