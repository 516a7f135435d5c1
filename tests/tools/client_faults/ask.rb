# Asks dalli, or Rails' MemCacheStore, for SECONDS. Arguments: host port seconds, then dalli, rails, or tuned (rails as the book has it).
require "dalli"
require "logger"
host, port, seconds, what = ARGV
Dalli.logger = Logger.new(File::NULL)
rails = what != "dalli"
if rails
  require "active_support"
  require "active_support/cache"
  require "active_support/notifications"
  tuned = { socket_timeout: 2, socket_max_failures: 0, down_retry_delay: 1, failover: false }
  client = ActiveSupport::Cache::MemCacheStore.new("#{host}:#{port}", **(what == "tuned" ? tuned : {}))
else
  client = Dalli::Client.new("#{host}:#{port}")
end
now = -> { Process.clock_gettime(Process::CLOCK_REALTIME) }
over = now.call + seconds.to_f
$stdout.sync = true
n = 0
while (from = now.call) < over
  key = "key#{n % ENV["KEYS"].to_i}"
  n += 1
  begin
    got = rails ? client.read(key) : client.get(key)
    said = got.nil? ? "miss" : "hit"
    rails ? client.write(key, "value", expires_in: 60) : client.set(key, "value", 60) if got.nil?
  rescue => error
    said = "error #{error.class}: #{error.message[0, 60]}"
  end
  puts format("%.3f %.1f %s", from, (now.call - from) * 1000, said)
  sleep 0.01
end
