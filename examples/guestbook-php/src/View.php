<?php

declare(strict_types=1);

namespace Guestbook;

/** Templates are PHP files; everything they print goes through e(). */
final class View
{
    /** @var array<string, string> */
    private readonly array $manifest;

    public function __construct(private readonly string $root)
    {
        $this->manifest = json_decode((string) file_get_contents("$root/public/assets/manifest.json"), true, 4, JSON_THROW_ON_ERROR);
    }

    /** @param array<string, mixed> $values */
    public function page(string $template, string $title, array $values): string
    {
        $content = $this->render($template, $values);

        return $this->render('layout', $values + ['title' => $title, 'content' => $content]);
    }

    public function e(string|int|null $text): string
    {
        return htmlspecialchars((string) $text, ENT_QUOTES | ENT_SUBSTITUTE | ENT_HTML5, 'UTF-8');
    }

    /** The address of an asset; its name changes with its content, so it may be cached for ever. */
    public function asset(string $name): string
    {
        return '/assets/' . $this->manifest[$name];
    }

    /** One of six colours, always the same for a name. */
    public function hue(string $name): int
    {
        return crc32($name) % 6;
    }

    public function initial(string $name): string
    {
        return (string) iconv_substr($name, 0, 1, 'UTF-8');
    }

    public function isoTime(string $time): string
    {
        return str_replace(' ', 'T', substr($time, 0, 19)) . 'Z';
    }

    /** @param array<string, mixed> $values */
    private function render(string $template, array $values): string
    {
        extract($values, EXTR_SKIP);
        ob_start();
        require "$this->root/templates/$template.php";

        return (string) ob_get_clean();
    }
}
