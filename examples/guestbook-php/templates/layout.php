<?php
/** @var \Guestbook\View $this */
/** @var string $title */
/** @var string $content */
/** @var string|null $user */
/** @var string|null $token */
?>
<!doctype html>
<html lang="en">
<head>
  <meta charset="utf-8">
  <meta name="viewport" content="width=device-width, initial-scale=1">
  <meta name="color-scheme" content="light dark">
  <title><?= $this->e($title) ?></title>
  <link rel="icon" type="image/svg+xml" href="<?= $this->asset('logo.svg') ?>">
  <link rel="stylesheet" href="<?= $this->asset('app.css') ?>">
  <script src="<?= $this->asset('app.js') ?>" defer></script>
</head>
<body>
  <header class="bar">
    <a class="brand" href="/"><img src="<?= $this->asset('logo.svg') ?>" width="36" height="36" alt="">Guestbook<small>PHP</small></a>
    <nav>
<?php if ($user === null): ?>
      <a class="link" href="/login">Log in</a>
<?php else: ?>
      <form method="post" action="/logout">
        <input type="hidden" name="csrf" value="<?= $this->e($token) ?>">
        <button class="link">Log out <?= $this->e($user) ?></button>
      </form>
<?php endif ?>
      <a class="button" href="/sign">Sign</a>
    </nav>
  </header>
  <main>
<?= $content ?>
  </main>
  <footer>
    <p>Served by <b><?= $this->e(\Guestbook\Environment::server()) ?></b>, release <b><?= $this->e(substr(\Guestbook\Environment::release(), 0, 12)) ?></b></p>
    <p>PHP, MariaDB and Redis behind Apache, nginx and Varnish</p>
  </footer>
</body>
</html>
