<?php

declare(strict_types=1);

namespace Guestbook;

use Closure;
use PDO;
use PDOException;

/**
 * Two doors to one database: the writer, and a reader that may be a moment behind.
 *
 * When a server dies the connection is lost and another server takes over behind the same address. Therefore each
 * statement is tried a second time on a new connection. Only statements that may run twice belong here: reads, and
 * writes that a unique key protects.
 */
final class Database
{
    /** Lost (2002, 2003, 2006, 2013), shutting down (1053), killed (1927), no longer the primary (1290, 1836). */
    private const LOST = [2002, 2003, 2006, 2013, 1053, 1927, 1290, 1836];
    private const DUPLICATE = 1062;
    private const PAUSE_MICROSECONDS = 250_000;

    /** @var array<string, PDO> */
    private array $connections = [];

    public function __construct(private readonly string $writer, private readonly string $reader)
    {
        // A server that hangs is as lost as one that is gone.
        ini_set('mysqlnd.net_read_timeout', '10');
    }

    /** @return list<array<string, mixed>> rows that may be a moment old */
    public function read(string $sql, mixed ...$values): array
    {
        return $this->run($this->reader, $sql, $values, static fn ($statement) => $statement->fetchAll());
    }

    /** @return list<array<string, mixed>> rows as they are now */
    public function readCurrent(string $sql, mixed ...$values): array
    {
        return $this->run($this->writer, $sql, $values, static fn ($statement) => $statement->fetchAll());
    }

    /** Rows changed; null where a unique key says that this was done before. */
    public function write(string $sql, mixed ...$values): ?int
    {
        try {
            return $this->run($this->writer, $sql, $values, static fn ($statement) => $statement->rowCount());
        } catch (PDOException $error) {
            if (self::number($error) === self::DUPLICATE) {
                return null;
            }
            throw $error;
        }
    }

    /** True when the writer's door leads to a server that takes writes. */
    public function isWritable(): bool
    {
        return (int) $this->readCurrent('SELECT @@global.read_only AS read_only')[0]['read_only'] === 0;
    }

    private function run(string $url, string $sql, array $values, Closure $result): mixed
    {
        try {
            return $this->attempt($url, $sql, $values, $result);
        } catch (PDOException $error) {
            $this->throwUnlessLost($error, $url);
        }
        usleep(self::PAUSE_MICROSECONDS);
        try {
            return $this->attempt($url, $sql, $values, $result);
        } catch (PDOException $error) {
            $this->throwUnlessLost($error, $url);
            throw new Unavailable('database: ' . $error->getMessage(), 0, $error);
        }
    }

    private function attempt(string $url, string $sql, array $values, Closure $result): mixed
    {
        $statement = ($this->connections[$url] ??= self::connect($url))->prepare($sql);
        $statement->execute($values);

        return $result($statement);
    }

    private function throwUnlessLost(PDOException $error, string $url): void
    {
        if (!in_array(self::number($error), self::LOST, true)) {
            throw $error;
        }
        unset($this->connections[$url]);
    }

    private static function number(PDOException $error): int
    {
        return (int) ($error->errorInfo[1] ?? $error->getCode());
    }

    private static function connect(string $url): PDO
    {
        $parts = parse_url($url);
        $dsn = sprintf(
            'mysql:host=%s;port=%d;dbname=%s;charset=utf8mb4',
            $parts['host'],
            $parts['port'] ?? 3306,
            rawurldecode(ltrim($parts['path'] ?? '', '/')),
        );

        // "@": mysqlnd also warns about what it throws.
        return @new PDO($dsn, rawurldecode($parts['user'] ?? ''), rawurldecode($parts['pass'] ?? ''), [
            PDO::ATTR_ERRMODE => PDO::ERRMODE_EXCEPTION,
            PDO::ATTR_DEFAULT_FETCH_MODE => PDO::FETCH_ASSOC,
            PDO::ATTR_EMULATE_PREPARES => false,
            PDO::ATTR_TIMEOUT => 2,
            PDO::MYSQL_ATTR_INIT_COMMAND => "SET time_zone = '+00:00'",
        ]);
    }
}
