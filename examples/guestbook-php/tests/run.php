#!/usr/bin/env php
<?php

declare(strict_types=1);

// php tests/run.php: what can be tested without engines. tests/integration/examples tests the rest over HTTP.

namespace Guestbook;

require __DIR__ . '/../src/autoload.php';

ini_set('error_log', '/dev/null');
$root = dirname(__DIR__);
$temporary = sys_get_temp_dir() . '/guestbook-' . bin2hex(random_bytes(6));
mkdir($temporary);

function same(mixed $expected, mixed $got): void
{
    if ($expected !== $got) {
        throw new \LogicException('expected ' . var_export($expected, true) . ', got ' . var_export($got, true));
    }
}

function refused(int $status, callable $work): void
{
    try {
        $work();
    } catch (Invalid $error) {
        same($status, $error->getCode());

        return;
    }
    throw new \LogicException("not refused with $status");
}

/** The application with engines that nobody runs: port 1 refuses every connection. */
function answer(Request $request): Response
{
    $database = new Database('mysql://nobody@127.0.0.1:1/none', 'mysql://nobody@127.0.0.1:1/none');
    $redis = new Redis('redis://127.0.0.1:1/0');

    return (new App(
        $request,
        new View(dirname(__DIR__)),
        new Messages($database),
        new Users($database),
        new Pictures('/nonexistent'),
        new Visits($redis),
        new Jobs($redis),
        $database,
    ))->handle();
}

$tests = [
    'text is trimmed, bounded and free of control characters' => function (): void {
        same("a\nb", Text::clean("  a\r\nb\x00\u{202E} \u{2003}", 3, 'It'));
        same(str_repeat('é', 60), Text::clean(str_repeat('é', 60), 60, 'It'));
        refused(422, fn () => Text::clean(str_repeat('é', 61), 60, 'It'));
        refused(422, fn () => Text::clean(" \n\t\x07", 60, 'It'));
        refused(422, fn () => Text::clean("\xff\xfe", 60, 'It'));
    },
    'bad idempotency keys are refused before the database is asked' => function (): void {
        $messages = new Messages(new Database('mysql://nobody@127.0.0.1:1/none', 'mysql://nobody@127.0.0.1:1/none'));
        foreach (['', 'short', 'with space', str_repeat('x', 101), "abcdefgh\n", 'schlüssel'] as $key) {
            refused(400, fn () => $messages->add($key, 'Ada', 'x', null));
        }
    },
    'pictures are named after their content' => function () use ($temporary, $root): void {
        $pictures = new Pictures("$temporary/uploads");
        $png = "$temporary/evil.php";
        file_put_contents($png, base64_decode('iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=='));
        $name = $pictures->keep($png);
        same(1, preg_match('/\A[0-9a-f]{40}\.png\z/', $name));
        same($name, $pictures->keep($png));
        same([$name], array_values(array_diff(scandir("$temporary/uploads"), ['.', '..'])));
        refused(422, fn () => $pictures->keep(__FILE__));
        refused(422, fn () => $pictures->keep("$root/public/assets/" . json_decode(file_get_contents("$root/public/assets/manifest.json"), true)['logo.svg']));
        file_put_contents("$temporary/large", str_repeat('x', Pictures::LIMIT_BYTES + 1));
        refused(413, fn () => $pictures->keep("$temporary/large"));
    },
    'old pictures that nobody shows are pruned' => function () use ($temporary): void {
        $folder = "$temporary/prune";
        mkdir($folder);
        foreach (['used.png' => 0, 'unused.png' => 0, 'new.png' => time()] as $name => $time) {
            touch("$folder/$name", $time);
        }
        same(1, (new Pictures($folder))->prune(fn (string $name) => $name === 'used.png'));
        same(['new.png', 'used.png'], array_map('basename', glob("$folder/*")));
    },
    'numbers in the query are kept in bounds' => function (): void {
        $request = new Request('GET', '/', query: ['a' => '99', 'b' => '-1', 'c' => 'x', 'd' => ['1']]);
        same([30.0, 0.0, 1.0, 1.0, 1.0], array_map(fn ($name) => $request->number($name, 1, 0, 30), ['a', 'b', 'c', 'd', 'e']));
    },
    'templates escape what they print' => function () use ($root): void {
        $page = (new View($root))->page('message', '</title>', ['user' => null, 'token' => null, 'message' => [
            'id' => 1, 'author' => '<b>', 'body' => '"&\'<script>', 'picture' => null, 'created_at' => '2026-01-02 03:04:05.678',
        ]]);
        same(false, str_contains($page, '<script>'));
        same(false, str_contains($page, '<b><b>'));
        same(true, str_contains($page, '&quot;&amp;&apos;&lt;script&gt;'));
        same(true, str_contains($page, 'datetime="2026-01-02T03:04:05Z"'));
        same(true, str_contains($page, '<title>&lt;/title&gt;</title>'));
    },
    'assets carry the fingerprint of their content' => function () use ($root): void {
        $manifest = json_decode(file_get_contents("$root/public/assets/manifest.json"), true);
        foreach ($manifest as $name => $current) {
            $hash = substr(hash_file('sha256', "$root/public/assets/$current"), 0, 8);
            same(preg_replace('/\.(?=[a-z]+$)/', ".$hash.", $name), $current);
        }
        same(count($manifest) + 1, count(glob("$root/public/assets/*")));
    },
    'unknown pages and methods' => function (): void {
        same(404, answer(new Request('GET', '/nothing'))->status);
        same(404, answer(new Request('GET', '/messages/01'))->status);
        $wrong = answer(new Request('DELETE', '/login'));
        same([405, 'GET, POST'], [$wrong->status, $wrong->headers['Allow']]);
        same(413, answer(new Request('POST', '/messages', server: ['CONTENT_LENGTH' => '99999999']))->status);
    },
    'without engines pages answer 503 and health says which' => function (): void {
        $page = answer(new Request('GET', '/'));
        same([503, '2', 'no-store'], [$page->status, $page->headers['Retry-After'], $page->headers['Cache-Control']]);
        $health = answer(new Request('GET', '/healthz'));
        same(503, $health->status);
        same(['database', 'cache'], json_decode($health->body, true)['failing']);
    },
    'a form without its token changes nothing' => function (): void {
        same(403, answer(new Request('POST', '/messages', form: ['body' => 'x']))->status);
        same(403, answer(new Request('POST', '/login', form: ['csrf' => '']))->status);
        same(403, answer(new Request('POST', '/messages', form: ['csrf' => ['a']]))->status);
    },
];

$failed = 0;
foreach ($tests as $name => $test) {
    try {
        $test();
        echo "ok   $name\n";
    } catch (\Throwable $error) {
        $failed++;
        echo "FAIL $name: $error\n";
    }
}
array_map(unlink(...), [...glob("$temporary/*/*"), ...array_filter(glob("$temporary/*"), is_file(...))]);
array_map(rmdir(...), [...glob("$temporary/*"), $temporary]);
printf("%d tests, %d failed\n", count($tests), $failed);
exit($failed === 0 ? 0 : 1);
