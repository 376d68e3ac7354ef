<?php

declare(strict_types=1);

namespace Guestbook;

use Closure;

final class Response
{
    /**
     * @param array<string, string> $headers
     * @param string|Closure(): void $body text, or a function that prints while it runs
     */
    public function __construct(
        public readonly int $status,
        public readonly string|Closure $body = '',
        public readonly array $headers = [],
    ) {
    }

    /** @param array<string, mixed> $value */
    public static function json(array $value, int $status = 200, array $headers = []): self
    {
        $text = json_encode($value, JSON_THROW_ON_ERROR | JSON_UNESCAPED_SLASHES | JSON_UNESCAPED_UNICODE);

        return new self($status, "$text\n", $headers + ['Content-Type' => 'application/json', 'Cache-Control' => 'no-store']);
    }

    public function send(): void
    {
        http_response_code($this->status);
        foreach ($this->headers as $name => $value) {
            header("$name: $value");
        }
        header('X-Served-By: ' . Environment::server());
        header('X-Content-Type-Options: nosniff');
        header_remove('X-Powered-By');
        if (is_string($this->body)) {
            echo $this->body;
        } else {
            ($this->body)();
        }
    }
}
