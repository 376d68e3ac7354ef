<?php

declare(strict_types=1);

namespace Guestbook;

/**
 * A queue with one consumer. A job is moved, never popped: what a killed worker had in hand is found again at its next
 * start, so a job runs at least once and must bear being run twice.
 */
final class Jobs
{
    private const WAITING = 'guestbook:jobs';
    private const IN_HAND = 'guestbook:jobs:in-hand';

    public function __construct(private readonly Redis $redis)
    {
    }

    public function add(string $author): void
    {
        $this->redis->run(static fn (\Redis $redis) => $redis->lPush(self::WAITING, $author));
    }

    /** Puts what an earlier worker left unfinished back into the queue. */
    public function recover(): int
    {
        $moved = 0;
        while ($this->redis->run(static fn (\Redis $redis) => $redis->rPopLPush(self::IN_HAND, self::WAITING)) !== false) {
            $moved++;
        }

        return $moved;
    }

    /** Waits at most a second for a job; null when there was none. */
    public function take(): ?string
    {
        $job = $this->redis->run(static fn (\Redis $redis) => $redis->bRPopLPush(self::WAITING, self::IN_HAND, 1));

        return $job === false ? null : $job;
    }

    public function finish(string $job): void
    {
        $this->redis->run(static fn (\Redis $redis) => $redis->lRem(self::IN_HAND, $job, 1));
    }
}
