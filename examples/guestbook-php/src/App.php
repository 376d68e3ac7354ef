<?php

declare(strict_types=1);

namespace Guestbook;

use PDOException;

/** Every page of the guestbook. */
final class App
{
    private const REQUEST_LIMIT_BYTES = 3 * 1024 * 1024;

    private readonly Session $session;

    public function __construct(
        private readonly Request $request,
        private readonly View $view,
        private readonly Messages $messages,
        private readonly Users $users,
        private readonly Pictures $pictures,
        private readonly Visits $visits,
        private readonly Jobs $jobs,
        private readonly Database $database,
    ) {
        $this->session = new Session($request);
    }

    public function handle(): Response
    {
        try {
            if ($this->request->contentLength() > self::REQUEST_LIMIT_BYTES) {
                throw new Invalid('This is too much at once: a picture has at most 2 MiB.', 413);
            }

            return $this->route();
        } catch (Invalid $error) {
            return $this->failure($error->getCode(), $error->getMessage());
        } catch (Unavailable $error) {
            error_log($error->getMessage());

            return $this->failure(503, 'We cannot reach our books just now. Please try again in a moment.', ['Retry-After' => '2']);
        } catch (PDOException $error) {
            error_log((string) $error);

            return $this->failure(500, 'Something went wrong on our side.');
        }
    }

    private function route(): Response
    {
        $path = $this->request->path;
        if (preg_match('~\A/messages/([1-9][0-9]{0,17})\z~', $path, $match) === 1) {
            return $this->only(['GET' => fn () => $this->message((int) $match[1])]);
        }

        return match ($path) {
            '/' => $this->only(['GET' => $this->home(...)]),
            '/sign' => $this->only(['GET' => fn () => $this->form('sign', 'Sign the guestbook')]),
            '/messages' => $this->only(['POST' => $this->post(...)]),
            '/login' => $this->only(['GET' => fn () => $this->form('login', 'Log in'), 'POST' => $this->logIn(...)]),
            '/logout' => $this->only(['POST' => $this->logOut(...)]),
            '/visits' => $this->only([
                'GET' => fn () => Response::json(['visits' => $this->visits->count()]),
                'POST' => fn () => Response::json(['visits' => $this->visits->add()]),
            ]),
            '/healthz' => $this->only(['GET' => $this->health(...)]),
            '/whoami' => $this->only(['GET' => $this->whoami(...)]),
            '/slow' => $this->only(['GET' => $this->slow(...)]),
            '/events' => $this->only(['GET' => $this->events(...)]),
            default => $this->failure(404, 'There is no such page.'),
        };
    }

    /** @param array<string, callable(): Response> $methods */
    private function only(array $methods): Response
    {
        $method = $this->request->method === 'HEAD' ? 'GET' : $this->request->method;

        return isset($methods[$method])
            ? $methods[$method]()
            : $this->failure(405, 'This page does not do that.', ['Allow' => implode(', ', array_keys($methods))]);
    }

    private function home(): Response
    {
        $before = $this->request->number('before', 0, 0, 1e15);
        $messages = $this->messages->latest($before > 0 ? (int) $before : null);

        return $this->page('home', 'Guestbook', 'guestbook messages', [
            'messages' => $messages,
            'older' => count($messages) === Messages::PAGE ? end($messages)['id'] : null,
            'regulars' => $this->messages->regulars(),
            'visits' => $this->visits->count(),
        ]);
    }

    private function message(int $id): Response
    {
        $message = $this->messages->find($id) ?? throw new Invalid('There is no such message.', 404);

        return $this->page('message', "Message from {$message['author']}", "guestbook message-$id", ['message' => $message]);
    }

    private function post(): Response
    {
        // No other site can make a browser send this header without asking first (RFC 6454, CORS preflight), so it
        // proves as much as the token does and lets programs write without a session.
        $key = $this->request->header('Idempotency-Key');
        if ($key === '') {
            $this->requireToken();
            $key = $this->request->field('idempotency_key');
        }
        try {
            $picture = $this->request->upload('picture');
            if ($picture !== null && $this->session->user() === null) {
                throw new Invalid('Log in to add a picture.', 403);
            }
            $author = $this->session->user() ?? $this->request->field('author');
            $picture = $picture === null ? null : $this->pictures->keep($picture);
            $written = $this->messages->add($key, $author, $this->request->field('body'), $picture);
        } catch (Invalid $error) {
            return $this->request->wantsJson() || !$this->session->isPresent()
                ? throw $error
                : $this->form('sign', 'Sign the guestbook', $error);
        }
        if (!$written['replayed']) {
            $this->tellWorker($author);
        }
        $url = "/messages/{$written['id']}";

        return $this->request->wantsJson()
            ? Response::json($written + ['url' => $url, 'server' => Environment::server()], 201, ['Location' => $url])
            : $this->redirect($url);
    }

    private function tellWorker(string $author): void
    {
        try {
            $this->jobs->add($author);
        } catch (Unavailable $error) {
            error_log($error->getMessage()); // the message is safe; the count catches up with the author's next one
        }
    }

    private function logIn(): Response
    {
        $this->requireToken();
        try {
            $name = $this->users->logIn($this->request->field('name'), $this->request->field('password'));
        } catch (Invalid $error) {
            return $this->form('login', 'Log in', $error);
        }
        $this->session->logIn($name);

        return $this->redirect('/');
    }

    private function logOut(): Response
    {
        $this->requireToken();
        $this->session->logOut();

        return $this->redirect('/');
    }

    private function requireToken(): void
    {
        if (!$this->session->hasToken($this->request->field('csrf'))) {
            throw new Invalid('This form is too old. Go back, load it again and send it once more.', 403);
        }
    }

    private function health(): Response
    {
        $checks = [
            'database' => $this->check(fn () => $this->database->isWritable() ? 'ok' : 'read-only'),
            'cache' => $this->check(fn () => $this->visits->works() ? 'ok' : 'does not keep values'),
        ];
        $failing = array_keys(array_filter($checks, static fn ($result) => $result !== 'ok'));

        return Response::json([
            'status' => $failing === [] ? 'ok' : 'failing',
            'failing' => $failing,
            'checks' => $checks,
            'server' => Environment::server(),
            'release' => Environment::release(),
        ], $failing === [] ? 200 : 503);
    }

    /** @param callable(): string $check */
    private function check(callable $check): string
    {
        try {
            return $check();
        } catch (Unavailable | PDOException $error) {
            error_log($error->getMessage()); // addresses and accounts belong in the log, not in the answer

            return 'unreachable';
        }
    }

    private function whoami(): Response
    {
        return Response::json([
            'scheme' => $this->request->scheme,
            'host' => $this->request->header('Host'),
            'client' => $this->request->client(),
            'request_id' => $this->request->header('X-Request-Id'),
            'session' => $this->session->isPresent(),
            'user' => $this->session->user(),
            'server' => Environment::server(),
            'release' => Environment::release(),
            'language' => 'php',
        ]);
    }

    private function slow(): Response
    {
        $seconds = $this->request->number('seconds', 1, 0, 30);
        usleep((int) ($seconds * 1e6));

        return Response::json(['slept' => $seconds, 'server' => Environment::server()]);
    }

    private function events(): Response
    {
        $count = (int) $this->request->number('count', 10, 1, 60);
        $interval = (int) ($this->request->number('interval', 1, 0.05, 5) * 1e6);

        return new Response(200, static function () use ($count, $interval): void {
            while (ob_get_level() > 0) {
                ob_end_flush();
            }
            for ($n = 1; $n <= $count && !connection_aborted(); $n++) {
                $data = json_encode(['n' => $n, 'server' => Environment::server()], JSON_THROW_ON_ERROR);
                echo "id: $n\ndata: $data\n\n";
                flush();
                if ($n < $count) {
                    usleep($interval);
                }
            }
            echo "event: done\ndata: {}\n\n";
        }, ['Content-Type' => 'text/event-stream', 'Cache-Control' => 'no-store', 'X-Accel-Buffering' => 'no']);
    }

    private function form(string $template, string $title, ?Invalid $error = null): Response
    {
        $values = [
            'error' => $error?->getMessage(),
            'name' => $this->request->field('name'),
            'author' => $this->request->field('author'),
            'body' => $this->request->field('body'),
            'key' => bin2hex(random_bytes(16)),
            'token' => $this->session->token(),
        ];

        return $this->html($error?->getCode() ?? 200, $template, $title, $values, ['Cache-Control' => 'private, no-store']);
    }

    /** A page that the edges may keep for visitors without a session; the tags say what to purge it by. */
    private function page(string $template, string $title, string $tags, array $values): Response
    {
        $headers = $this->session->isPresent()
            ? ['Cache-Control' => 'private, no-store']
            : ['Cache-Control' => 'public, max-age=10, stale-while-revalidate=30', 'Surrogate-Key' => $tags];

        return $this->html(200, $template, $title, $values, $headers + ['Vary' => 'Cookie']);
    }

    /** @param array<string, string> $headers */
    private function failure(int $status, string $text, array $headers = []): Response
    {
        $headers += ['Cache-Control' => 'no-store'];

        return $this->request->wantsJson()
            ? Response::json(['error' => $text], $status, $headers)
            : $this->html($status, 'error', 'Sorry', ['text' => $text, 'status' => $status], $headers);
    }

    /**
     * @param array<string, mixed> $values
     * @param array<string, string> $headers
     */
    private function html(int $status, string $template, string $title, array $values, array $headers): Response
    {
        $user = $this->session->user();
        $values += ['user' => $user, 'token' => $user === null ? null : $this->session->token()];

        return new Response($status, $this->view->page($template, $title, $values), $headers + [
            'Content-Type' => 'text/html; charset=utf-8',
            'Content-Security-Policy' => "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
            'Referrer-Policy' => 'same-origin',
        ]);
    }

    private function redirect(string $url): Response
    {
        return new Response(303, '', ['Location' => $url, 'Cache-Control' => 'no-store']);
    }
}
