<?php
// Asks php-memcached, or Laravel's memcached store, for SECONDS. Arguments: host port seconds, then memcached, laravel, tuned (the same as
// the book has it) or requests (a client anew for each call, as in a request of PHP).
require_once 'Illuminate/Cache/autoload.php';
[, $host, $port, $seconds, $what] = $argv;
function client() {
    global $host, $port, $what;
    $client = new Memcached();
    if ($what === 'tuned') {
        $client->setOptions([Memcached::OPT_CONNECT_TIMEOUT => 1000, Memcached::OPT_POLL_TIMEOUT => 2000, Memcached::OPT_RETRY_TIMEOUT => 0,
            Memcached::OPT_SERVER_FAILURE_LIMIT => 1000000]);
    }
    // As Laravel's connector does it.
    $client->addServer($host, (int) $port, 100);
    return in_array($what, ['laravel', 'tuned']) ? new Illuminate\Cache\Repository(new Illuminate\Cache\MemcachedStore($client, '')) : $client;
}
$client = client();
for ($n = 0, $end = microtime(true) + $seconds; ($from = microtime(true)) < $end; $n++) {
    if ($what === 'requests') { $client = client(); }
    $key = 'key' . $n % (int) getenv('KEYS');
    try {
        $got = $client->get($key);
        if (in_array($what, ['laravel', 'tuned'])) {
            $said = $got !== null ? 'hit' : 'miss';
            if ($got === null) { $client->put($key, 'value', 60); }
        } else {
            $code = $client->getResultCode();
            $said = $code === Memcached::RES_SUCCESS ? 'hit' : ($code === Memcached::RES_NOTFOUND ? 'miss' : 'error ' . $client->getResultMessage());
            if ($said === 'miss') { $client->set($key, 'value', 60); }
        }
    } catch (Throwable $error) { $said = 'error ' . get_class($error); }
    printf("%.3f %.1f %s\n", $from, (microtime(true) - $from) * 1000, $said);
    usleep(10000);
}
