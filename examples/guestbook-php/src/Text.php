<?php

declare(strict_types=1);

namespace Guestbook;

final class Text
{
    /** Valid UTF-8, trimmed, without control characters, 1 to $limit characters; otherwise Invalid. */
    public static function clean(string $text, int $limit, string $what): string
    {
        if (preg_match('//u', $text) !== 1) {
            throw new Invalid("$what is not valid text.");
        }
        $text = str_replace("\r\n", "\n", $text);
        $text = (string) preg_replace('/[^\P{Cc}\n\t]|[\x{202A}-\x{202E}\x{2066}-\x{2069}]/u', '', $text);
        $text = (string) preg_replace('/^\s+|\s+$/u', '', $text);
        $length = (int) iconv_strlen($text, 'UTF-8');
        if ($length < 1) {
            throw new Invalid("$what is missing.");
        }
        if ($length > $limit) {
            throw new Invalid("$what is longer than $limit characters.");
        }

        return $text;
    }
}
