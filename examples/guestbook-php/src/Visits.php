<?php

declare(strict_types=1);

namespace Guestbook;

/** How often the guestbook was opened. Lives in the cache: after a restart the count may begin again. */
final class Visits
{
    private const KEY = 'guestbook:visits';

    public function __construct(private readonly Redis $cache)
    {
    }

    /** Null where the cache does not answer: a page without a number is better than no page. */
    public function count(): ?int
    {
        try {
            return (int) $this->cache->run(static fn (\Redis $redis) => $redis->get(self::KEY));
        } catch (Unavailable) {
            return null;
        }
    }

    public function add(): int
    {
        return (int) $this->cache->run(static fn (\Redis $redis) => $redis->incr(self::KEY));
    }

    /** True when the cache takes a value and gives it back. */
    public function works(): bool
    {
        return $this->cache->run(static function (\Redis $redis): bool {
            $value = bin2hex(random_bytes(8));
            $key = 'guestbook:health:' . $value;

            return $redis->setex($key, 10, $value) && $redis->get($key) === $value;
        });
    }
}
