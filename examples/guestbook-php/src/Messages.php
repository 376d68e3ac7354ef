<?php

declare(strict_types=1);

namespace Guestbook;

/** The messages in the database. */
final class Messages
{
    public const PAGE = 20;
    private const COLUMNS = 'id, author, body, picture, created_at';

    public function __construct(private readonly Database $database)
    {
    }

    /** @return list<array<string, mixed>> the newest first, only those older than $before where given */
    public function latest(?int $before = null): array
    {
        return $this->database->read(
            'SELECT ' . self::COLUMNS . ' FROM messages WHERE id < ? ORDER BY id DESC LIMIT ' . self::PAGE,
            $before ?? PHP_INT_MAX,
        );
    }

    /** @return array<string, mixed>|null */
    public function find(int $id): ?array
    {
        $sql = 'SELECT ' . self::COLUMNS . ' FROM messages WHERE id = ?';

        // A replica may be a moment behind the visitor who has just written: ask the writer before saying "no".
        return $this->database->read($sql, $id)[0] ?? $this->database->readCurrent($sql, $id)[0] ?? null;
    }

    /** @return list<array<string, mixed>> who wrote most */
    public function regulars(): array
    {
        return $this->database->read('SELECT author, messages FROM authors ORDER BY messages DESC, author LIMIT 5');
    }

    /**
     * Writes a message once, however often it is sent with the same key.
     *
     * @return array{id: int, replayed: bool}
     */
    public function add(string $key, string $author, string $body, ?string $picture): array
    {
        $key = self::key($key);
        $author = Text::clean($author, 60, 'Your name');
        $body = Text::clean($body, 1000, 'Your message');
        $written = $this->database->write(
            'INSERT INTO messages (author, body, picture, idempotency_key) VALUES (?, ?, ?, ?)',
            $author,
            $body,
            $picture,
            $key,
        );
        [$row] = $this->database->readCurrent(
            'SELECT id, author, body, picture FROM messages WHERE idempotency_key = ?',
            $key,
        );
        if ([$row['author'], $row['body'], $row['picture']] !== [$author, $body, $picture]) {
            throw new Invalid('This Idempotency-Key was used for another message.');
        }

        return ['id' => (int) $row['id'], 'replayed' => $written === null];
    }

    /** Counts one author's messages afresh; may run any number of times. */
    public function countAuthor(string $author): void
    {
        $this->database->write(
            'INSERT INTO authors (author, messages, last_at)
             SELECT MIN(author), COUNT(*), MAX(created_at) FROM messages WHERE author = ? HAVING COUNT(*) > 0
             ON DUPLICATE KEY UPDATE messages = VALUES(messages), last_at = VALUES(last_at)',
            $author,
        );
    }

    /** Deletes what is older than $days, a little at a time, so that no replica falls behind; returns the number. */
    public function prune(int $days): int
    {
        $total = 0;
        do {
            $deleted = $this->database->write(
                'DELETE FROM messages WHERE created_at < UTC_TIMESTAMP(3) - INTERVAL ? DAY ORDER BY id LIMIT 500',
                $days,
            );
            $total += $deleted;
        } while ($deleted > 0);

        return $total;
    }

    public function usesPicture(string $name): bool
    {
        return $this->database->readCurrent('SELECT 1 FROM messages WHERE picture = ? LIMIT 1', $name) !== [];
    }

    private static function key(string $key): string
    {
        $key = trim($key, ' "'); // the header's standard form is a quoted string
        if (preg_match('/\A[A-Za-z0-9._:-]{8,100}\z/', $key) !== 1) {
            throw new Invalid('A message needs an Idempotency-Key of 8 to 100 letters, digits or ._:-', 400);
        }

        return $key;
    }
}
