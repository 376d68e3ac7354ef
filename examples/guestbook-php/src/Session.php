<?php

declare(strict_types=1);

namespace Guestbook;

/**
 * An ordinary PHP session. Where it is kept (files, Redis) is php.ini's business.
 *
 * It is opened only for visitors who bring its cookie or need one (a form, a login), so that everybody else's pages
 * stay cacheable; and it is closed at once, because an open session makes the visitor's other requests wait.
 */
final class Session
{
    /** @var array<string, string> */
    private array $data = [];

    public function __construct(private readonly Request $request)
    {
        if (session_status() !== PHP_SESSION_ACTIVE) {
            ini_set('session.use_strict_mode', '1');
            ini_set('session.gc_maxlifetime', (string) (7 * 86400));
            session_cache_limiter(''); // the application writes its own Cache-Control
            session_set_cookie_params(
                ['path' => '/', 'httponly' => true, 'samesite' => 'Lax', 'secure' => $request->scheme === 'https'],
            );
        }
        if ($this->isPresent()) {
            try {
                $this->change(static fn () => null);
            } catch (Unavailable $error) {
                error_log($error->getMessage()); // reads go on as if logged out
            }
        }
    }

    public function isPresent(): bool
    {
        return isset($this->request->cookies[session_name()]);
    }

    public function user(): ?string
    {
        return $this->data['user'] ?? null;
    }

    /** The token that this visitor's forms carry. */
    public function token(): string
    {
        if (!isset($this->data['token'])) {
            $this->change(static fn () => $_SESSION['token'] ??= bin2hex(random_bytes(16)));
        }

        return $this->data['token'];
    }

    public function hasToken(string $token): bool
    {
        return isset($this->data['token']) && hash_equals($this->data['token'], $token);
    }

    public function logIn(string $name): void
    {
        $this->change(static function () use ($name): void {
            session_regenerate_id(true); // an id that somebody planted before the login is worth nothing after it
            $_SESSION = ['user' => $name, 'token' => bin2hex(random_bytes(16))];
        });
    }

    public function logOut(): void
    {
        $this->change(static fn () => session_destroy());
        $this->data = [];
        $cookie = session_get_cookie_params();
        header_remove('Set-Cookie'); // opening the session again has announced it again
        setcookie((string) session_name(), '', ['expires' => 1, 'path' => '/', 'httponly' => true, 'secure' => $cookie['secure']]);
    }

    private function change(callable $work): void
    {
        if (!@session_start()) {
            throw new Unavailable('sessions: ' . (error_get_last()['message'] ?? 'cannot be opened'));
        }
        $work();
        $this->data = $_SESSION;
        session_write_close();
    }
}
