<?php
// Ordinary use of php-memcached. Arguments: host port, then text, binary or sessions.
[, $host, $port, $what] = $argv;
$checked = 0;
function check($is, string $what): void { global $checked; $checked++; if (!$is) { fwrite(STDERR, "not so: $what\n"); exit(1); } }
if ($what === 'sessions') {
    // Debian's defaults: the binary protocol, with locks (an add, and a delete at the end).
    ini_set('session.save_handler', 'memcached');
    ini_set('session.save_path', "$host:$port");
    ini_set('session.use_cookies', '0');
    ini_set('session.cache_limiter', '');
    for ($round = 1; $round <= 5; $round++) {
        session_id('abcdef0123456789');
        check(session_start(), 'start');
        check(($_SESSION['round'] ?? 0) === $round - 1, "round $round is read");
        $_SESSION['round'] = $round;
        check(session_write_close(), 'close');
    }
    session_id('abcdef0123456789');
    check(session_start() && session_regenerate_id(true) && $_SESSION['round'] === 5, 'another id');
    check(session_destroy(), 'destroy');
    check(session_start() && $_SESSION === ['round' => 5] || $_SESSION === [], 'after the end');
    session_write_close();
    echo "fine $checked\n";
    exit(0);
}
$client = new Memcached();
$client->setOption(Memcached::OPT_BINARY_PROTOCOL, $what === 'binary');
$client->addServer($host, (int) $port);
check($client->flush(), 'flush');
check($client->set('a', ['b' => [1, 2]]) && $client->get('a') === ['b' => [1, 2]], 'set and get');
check($client->get('never') === false && $client->getResultCode() === Memcached::RES_NOTFOUND, 'a miss');
check(!$client->add("a", 1) && in_array($client->getResultCode(), [Memcached::RES_NOTSTORED, Memcached::RES_DATA_EXISTS], true), "add of what is there");
check($client->add('new', 1) && $client->replace('new', 2) && !$client->replace('never', 2), 'add and replace');
check($client->set('n', 1) && $client->increment('n', 4) === 5 && $client->decrement('n', 2) === 3, 'counters');
if ($what === 'binary') { check($client->increment('made', 1, 7, 100) === 7 && $client->increment('made', 2) === 9, 'a counter that is made'); }
$client->setOption(Memcached::OPT_COMPRESSION, false);
check($client->set('text', 'b') && $client->append('text', 'c') && $client->prepend('text', 'a') && $client->get('text') === 'abc', 'append');
$got = $client->get('text', null, Memcached::GET_EXTENDED);
check($client->cas($got['cas'], 'text', 'x') && !$client->cas($got['cas'], 'text', 'y'), 'cas');
check($client->touch('text', 100) && !$client->touch('never', 100), 'touch');
$many = [];
for ($n = 0; $n < 300; $n++) { $many["m$n"] = "v$n"; }
check($client->setMulti($many) && $client->getMulti(array_merge(array_keys($many), ['never'])) == $many, 'many');
check($client->getDelayed(['m1', 'm2'], true) && count($client->fetchAll()) === 2, 'delayed');
check($client->set('big', str_repeat('x', 900000)) && strlen($client->get('big')) === 900000, 'a large one');
check(!$client->set('huge', str_repeat('x', 2000000)), 'one that is too large');
check($client->get('m1') === 'v1', 'the connection is usable behind it');
check($client->delete('a') && !$client->delete('a') && !in_array(false, array_map(fn($r) => $r === true, $client->deleteMulti(['m1', 'm2'])), true), 'delete');
check(preg_match('/^1\.6\./', array_values($client->getVersion())[0]), 'version');
check(isset(array_values($client->getStats())[0]['curr_items']), 'stats');
check($client->flush() && $client->get('n') === false, 'flush');
echo "fine $checked\n";
