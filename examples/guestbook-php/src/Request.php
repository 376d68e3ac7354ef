<?php

declare(strict_types=1);

namespace Guestbook;

/** What the visitor asked for. Scheme and client address are right because the web server in front sets them. */
final class Request
{
    /**
     * @param array<string, mixed> $query
     * @param array<string, mixed> $form
     * @param array<string, mixed> $cookies
     * @param array<string, mixed> $files
     * @param array<string, mixed> $server
     */
    public function __construct(
        public readonly string $method,
        public readonly string $path,
        public readonly string $scheme = 'http',
        private readonly array $query = [],
        private readonly array $form = [],
        public readonly array $cookies = [],
        private readonly array $files = [],
        private readonly array $server = [],
    ) {
    }

    public static function fromGlobals(): self
    {
        return new self(
            $_SERVER['REQUEST_METHOD'],
            rawurldecode(explode('?', $_SERVER['REQUEST_URI'], 2)[0]),
            in_array(strtolower($_SERVER['HTTPS'] ?? ''), ['', 'off'], true) ? 'http' : 'https',
            $_GET,
            $_POST,
            $_COOKIE,
            $_FILES,
            $_SERVER,
        );
    }

    public function header(string $name): string
    {
        return (string) ($this->server['HTTP_' . strtoupper(strtr($name, '-', '_'))] ?? '');
    }

    public function client(): string
    {
        return (string) ($this->server['REMOTE_ADDR'] ?? '');
    }

    public function contentLength(): int
    {
        return (int) ($this->server['CONTENT_LENGTH'] ?? 0);
    }

    public function wantsJson(): bool
    {
        return str_contains($this->header('Accept'), 'application/json');
    }

    public function field(string $name): string
    {
        $value = $this->form[$name] ?? '';

        return is_string($value) ? $value : '';
    }

    /** A number from the query, kept between $low and $high. */
    public function number(string $name, float $default, float $low, float $high): float
    {
        $value = $this->query[$name] ?? '';

        return is_numeric($value) ? max($low, min($high, (float) $value)) : $default;
    }

    /** The path of an uploaded file; null where none was sent. */
    public function upload(string $name): ?string
    {
        $file = $this->files[$name] ?? null;
        if (!is_array($file) || !is_int($file['error']) || $file['error'] === UPLOAD_ERR_NO_FILE) {
            return null;
        }

        return match ($file['error']) {
            UPLOAD_ERR_OK => $file['tmp_name'],
            UPLOAD_ERR_INI_SIZE, UPLOAD_ERR_FORM_SIZE => throw new Invalid('A picture has at most 2 MiB.', 413),
            default => throw new Invalid('The picture did not arrive whole; please send it again.'),
        };
    }
}
