<?php

declare(strict_types=1);

// Guestbook\Name lives in src/Name.php; no composer, no dependencies.
spl_autoload_register(static function (string $class): void {
    if (str_starts_with($class, 'Guestbook\\')) {
        require __DIR__ . '/' . str_replace('\\', '/', substr($class, strlen('Guestbook\\'))) . '.php';
    }
});
