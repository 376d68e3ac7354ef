<?php
/** @var \Guestbook\View $this */
/** @var string $text */
/** @var int $status */
?>
    <section class="card">
      <h1><?= (int) $status ?></h1>
      <p><?= $this->e($text) ?></p>
      <p><a class="button quiet" href="/">Back to the guestbook</a></p>
    </section>
