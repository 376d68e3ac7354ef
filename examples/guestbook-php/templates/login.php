<?php
/** @var \Guestbook\View $this */
/** @var string|null $error */
/** @var string $name */
/** @var string $token */
?>
    <form class="card" method="post" action="/login">
      <h1>Log in</h1>
<?php if ($error !== null): ?>
      <p class="error" role="alert"><?= $this->e($error) ?></p>
<?php endif ?>
      <input type="hidden" name="csrf" value="<?= $this->e($token) ?>">
      <label>Your name
        <input name="name" value="<?= $this->e($name) ?>" maxlength="60" required autocomplete="username">
      </label>
      <label>Password
        <input type="password" name="password" minlength="8" maxlength="200" required autocomplete="current-password">
      </label>
      <p class="hint">A new name becomes yours with the password that you choose now.</p>
      <button class="button">Log in</button>
    </form>
