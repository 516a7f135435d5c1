# Ordinary use of dalli, whose version in Debian speaks the binary protocol alone. Arguments: host port.
require "dalli"
host, port = ARGV
$checked = 0
def check(is, what) = (is ? $checked += 1 : abort("not so: #{what}"))
client = Dalli::Client.new("#{host}:#{port}", socket_timeout: 5)
client.flush
check(client.set("a", { "b" => [1, 2] }) && client.get("a") == { "b" => [1, 2] }, "set and get")
check(client.get("never").nil?, "a miss")
check(client.add("a", 1) == false && client.add("new", 1), "add")
client.replace("never", 2)
check(client.replace("a", 2) && client.get("never").nil?, "replace")
check(client.incr("n", 1, nil, 7) == 7 && client.incr("n", 4) == 11 && client.decr("n", 2) == 9, "counters")
check(client.incr("nothing", 1).nil?, "a counter that is not there")
client.set("text", "b", 0, raw: true)
check(client.append("text", "c") && client.prepend("text", "a") && client.get("text", raw: true) == "abc", "append")
check(client.cas("a") { |value| value + 1 } && client.get("a") == 3, "cas")
check(client.touch("a", 100) && !client.touch("never", 100), "touch")
check(client.gat("a", 100) == 3, "gat")
client.multi { 200.times { |n| client.set("m#{n}", n) } } if client.respond_to?(:multi)
client.quiet { 200.times { |n| client.set("m#{n}", n) } } if client.respond_to?(:quiet)
keys = Array.new(220) { |n| "m#{n}" }
check(client.get_multi(*keys) == Array.new(200) { |n| ["m#{n}", n] }.to_h, "many")
check(client.fetch("lazy", 100) { 42 } == 42 && client.get("lazy") == 42, "fetch")
check(client.set("with blank é", 1) && client.get("with blank é") == 1, "a key with a blank")
client.set("big", "x" * 900_000, 0, raw: true)
check(client.get("big", raw: true).size == 900_000, "a large one")
begin
  client.set("huge", Random.bytes(2_000_000))
rescue Dalli::ValueOverMaxSize, Dalli::DalliError
end
check(client.get("a") == 3, "usable behind one that is too large")
check(client.delete("a") && !client.delete("a"), "delete")
check(client.version.values.first.start_with?("1.6."), "version")
check(client.stats.values.first.key?("curr_items"), "stats")
check(client.stats(:items).values.first.keys.any?, "stats items")
client.flush
check(client.get("n").nil?, "flush")
client.close
puts "fine #{$checked}"
