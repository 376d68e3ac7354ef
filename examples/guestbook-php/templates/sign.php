<?php
/** @var \Guestbook\View $this */
/** @var string|null $error */
/** @var string|null $user */
/** @var string $author */
/** @var string $body */
/** @var string $key */
/** @var string $token */
?>
    <form class="card" method="post" action="/messages" enctype="multipart/form-data">
      <h1>Sign the guestbook</h1>
<?php if ($error !== null): ?>
      <p class="error" role="alert"><?= $this->e($error) ?></p>
<?php endif ?>
      <input type="hidden" name="csrf" value="<?= $this->e($token) ?>">
      <input type="hidden" name="idempotency_key" value="<?= $this->e($key) ?>">
<?php if ($user === null): ?>
      <label>Your name
        <input name="author" value="<?= $this->e($author) ?>" maxlength="60" required autocomplete="name">
      </label>
<?php endif ?>
      <label>Your message
        <textarea name="body" rows="6" maxlength="1000" required><?= $this->e($body) ?></textarea>
      </label>
<?php if ($user === null): ?>
      <p class="hint"><a href="/login">Log in</a> to add a picture.</p>
<?php else: ?>
      <label>A picture, if you like
        <input type="file" name="picture" accept="image/jpeg,image/png,image/gif,image/webp">
        <span class="hint">JPEG, PNG, GIF or WebP, at most 2 MiB</span>
      </label>
<?php endif ?>
      <button class="button">Sign<?= $user === null ? '' : ' as ' . $this->e($user) ?></button>
    </form>
