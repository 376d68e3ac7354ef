<?php
/** @var \Guestbook\View $this */
/** @var list<array<string, mixed>> $messages */
/** @var list<array<string, mixed>> $regulars */
/** @var int|null $older */
/** @var int|null $visits */
?>
    <section class="hero">
      <h1>You were here.</h1>
      <p>Leave a line for whoever comes next.</p>
      <p class="visits">Visitor number <b data-visits><?= $visits === null ? '–' : number_format($visits) ?></b></p>
    </section>
<?php if ($regulars !== []): ?>
    <ul class="regulars" aria-label="Who wrote most">
<?php foreach ($regulars as $regular): ?>
      <li><?= $this->e($regular['author']) ?> <b><?= (int) $regular['messages'] ?></b></li>
<?php endforeach ?>
    </ul>
<?php endif ?>
    <section class="messages">
<?php foreach ($messages as $message): ?>
<?= $this->render('entry', ['message' => $message]) ?>
<?php endforeach ?>
<?php if ($messages === []): ?>
      <p class="empty">Nothing here yet. <a href="/sign">Be the first.</a></p>
<?php endif ?>
    </section>
<?php if ($older !== null): ?>
    <p class="more"><a class="button quiet" href="/?before=<?= (int) $older ?>">Older messages</a></p>
<?php endif ?>
