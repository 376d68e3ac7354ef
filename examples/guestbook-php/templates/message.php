<?php
/** @var \Guestbook\View $this */
/** @var array<string, mixed> $message */
?>
    <section class="messages single">
<?= $this->render('entry', ['message' => $message]) ?>
    </section>
    <p class="more"><a class="button quiet" href="/">All messages</a></p>
