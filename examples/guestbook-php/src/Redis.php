<?php

declare(strict_types=1);

namespace Guestbook;

use Closure;
use RedisException;

/** A connection to Redis that is opened when first needed and opened again once when it was lost. */
final class Redis
{
    private ?\Redis $connection = null;

    public function __construct(private readonly string $url, private readonly float $readTimeout = 2.0)
    {
    }

    /**
     * @template T
     * @param Closure(\Redis): T $work something that may run twice
     * @return T
     * @throws Unavailable
     */
    public function run(Closure $work): mixed
    {
        try {
            return $work($this->connection ??= $this->connect());
        } catch (RedisException) {
            $this->connection = null;
        }
        try {
            return $work($this->connection ??= $this->connect());
        } catch (RedisException $error) {
            $this->connection = null;
            throw new Unavailable('cache: ' . $error->getMessage(), 0, $error);
        }
    }

    private function connect(): \Redis
    {
        $parts = parse_url($this->url);
        $redis = new \Redis();
        // "@": phpredis also warns about what it throws.
        @$redis->connect($parts['host'], $parts['port'] ?? 6379, 1.0, null, 0, $this->readTimeout);
        if (isset($parts['pass'])) {
            $user = rawurldecode($parts['user'] ?? '');
            $password = rawurldecode($parts['pass']);
            $redis->auth($user === '' ? $password : [$user, $password]);
        }
        $redis->select((int) ltrim($parts['path'] ?? '/0', '/'));

        return $redis;
    }
}
