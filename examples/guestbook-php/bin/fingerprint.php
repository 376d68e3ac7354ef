#!/usr/bin/env php
<?php

declare(strict_types=1);

// Run it after editing a file in public/assets: each file is renamed after its content (app.css is app.1a2b3c4d.css)
// and the manifest says which name is current. There is no other build step and no second copy.

$folder = dirname(__DIR__) . '/public/assets';
$manifest = json_decode((string) file_get_contents("$folder/manifest.json"), true, 4, JSON_THROW_ON_ERROR);
foreach ($manifest as $name => $current) {
    $parts = pathinfo($name);
    $renamed = sprintf('%s.%s.%s', $parts['filename'], substr(hash_file('sha256', "$folder/$current"), 0, 8), $parts['extension']);
    if ($renamed !== $current) {
        rename("$folder/$current", "$folder/$renamed");
        $manifest[$name] = $renamed;
        echo "$current -> $renamed\n";
    }
}
file_put_contents("$folder/manifest.json", json_encode($manifest, JSON_PRETTY_PRINT | JSON_UNESCAPED_SLASHES) . "\n");
