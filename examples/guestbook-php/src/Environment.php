<?php

declare(strict_types=1);

namespace Guestbook;

/** The twelve-factor variables, with defaults for `php -S` on a developer's machine. */
final class Environment
{
    public static function get(string $name, string $default = ''): string
    {
        $value = getenv($name);

        return $value === false || $value === '' ? $default : $value;
    }

    public static function server(): string
    {
        return self::get('LAMPSTAND_SERVER', (string) gethostname());
    }

    public static function release(): string
    {
        return self::get('APP_RELEASE', 'development');
    }

    public static function database(): Database
    {
        $writer = self::get('DATABASE_URL', 'mysql://guestbook:guestbook@127.0.0.1:3306/guestbook');

        return new Database($writer, self::get('DATABASE_REPLICA_URL', $writer));
    }

    public static function cache(): Redis
    {
        return new Redis(self::get('REDIS_URL', 'redis://127.0.0.1:6379/0'));
    }

    /** Jobs wait beside the sessions: that store never evicts and writes to disk, the cache does neither. */
    public static function jobs(): Jobs
    {
        return new Jobs(new Redis(self::get('SESSION_REDIS_URL', self::get('REDIS_URL', 'redis://127.0.0.1:6379/0'))));
    }
}
