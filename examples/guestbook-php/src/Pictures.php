<?php

declare(strict_types=1);

namespace Guestbook;

/** Pictures in a folder that all web servers share. A file is named after its content and never changes. */
final class Pictures
{
    public const LIMIT_BYTES = 2 * 1024 * 1024;
    private const SIDE = 8000; // pixels
    private const TYPES = [IMAGETYPE_JPEG => 'jpg', IMAGETYPE_PNG => 'png', IMAGETYPE_GIF => 'gif', IMAGETYPE_WEBP => 'webp'];

    public function __construct(private readonly string $folder)
    {
    }

    /** Checks and keeps an uploaded file; returns the name it is served under. */
    public function keep(string $file): string
    {
        if (filesize($file) > self::LIMIT_BYTES) {
            throw new Invalid('A picture has at most 2 MiB.', 413);
        }
        // The content decides, neither the name nor the type that the visitor claims.
        $size = @getimagesize($file);
        $ending = self::TYPES[$size[2] ?? 0] ?? null;
        if ($ending === null || $size[0] > self::SIDE || $size[1] > self::SIDE) {
            throw new Invalid('A picture is a JPEG, PNG, GIF or WebP of at most ' . self::SIDE . ' pixels a side.');
        }
        $name = substr(hash_file('sha256', $file), 0, 40) . '.' . $ending;
        $path = "$this->folder/$name";
        if (!is_file($path)) {
            if (!is_dir($this->folder)) {
                mkdir($this->folder, 0755, true);
            }
            // Written beside and renamed: no other web server ever serves half a picture.
            $part = "$path." . bin2hex(random_bytes(6)) . '.part';
            if (!copy($file, $part) || !chmod($part, 0644) || !rename($part, $path)) {
                throw new Unavailable('uploads: cannot write ' . $path);
            }
        }

        return $name;
    }

    /**
     * Deletes files older than a day that no message shows.
     *
     * @param callable(string): bool $used
     */
    public function prune(callable $used): int
    {
        $deleted = 0;
        foreach (glob("$this->folder/*.*") ?: [] as $path) {
            if (filemtime($path) < time() - 86400 && !$used(basename($path)) && unlink($path)) {
                $deleted++;
            }
        }

        return $deleted;
    }
}
