// Ordinary use of spymemcached. Arguments: host port, then text or binary.
import java.net.InetSocketAddress;
import java.util.*;
import java.util.concurrent.Future;
import net.spy.memcached.*;
import net.spy.memcached.transcoders.SerializingTranscoder;
import net.spy.memcached.transcoders.Transcoder;

public class Use {
    static int checked;

    static void check(boolean is, String what) {
        if (!is) {
            System.err.println("not so: " + what);
            System.exit(1);
        }
        checked++;
    }

    public static void main(String[] given) throws Exception {
        ConnectionFactory how = given[2].equals("binary") ? new BinaryConnectionFactory() : new DefaultConnectionFactory();
        MemcachedClient client = new MemcachedClient(how, List.of(new InetSocketAddress(given[0], Integer.parseInt(given[1]))));
        check(client.flush().get(), "flush");
        check(client.set("a", 100, "1").get() && "1".equals(client.get("a")), "set and get");
        check(client.get("never") == null, "a miss");
        check(!client.add("a", 100, "2").get() && client.add("new", 100, "2").get(), "add");
        check(client.replace("a", 100, "5").get() && !client.replace("never", 100, "5").get(), "replace");
        check(client.incr("a", 3) == 8 && client.decr("a", 2) == 6, "counters");
        check(client.incr("n", 1, 7, 100) == 7 && client.incr("n", 4, 7, 100) == 11, "a counter that is made");
        check(client.incr("nothing", 1) == -1, "a counter that is not there");
        check(client.set("text", 100, "b").get(), "set");
        long unique = client.gets("text").getCas();
        check(client.append(unique, "text", "c").get() && client.prepend(client.gets("text").getCas(), "text", "a").get(), "append");
        CASValue<Object> got = client.gets("text");
        check("abc".equals(got.getValue()), "what was appended");
        check(client.cas("text", got.getCas(), "x") == CASResponse.OK, "cas");
        check(client.cas("text", got.getCas(), "y") == CASResponse.EXISTS, "cas of what has changed");
        check(client.cas("never", got.getCas(), "y") == CASResponse.NOT_FOUND, "cas of nothing");
        check(client.touch("text", 100).get() && !client.touch("never", 100).get(), "touch");
        if (given[2].equals("binary")) check("x".equals(client.getAndTouch("text", 100).getValue()), "get and touch");
        List<String> keys = new ArrayList<>();
        List<Future<Boolean>> sets = new ArrayList<>();
        for (int n = 0; n < 2000; n++) keys.add("m" + n);
        for (String key : keys.subList(0, 1900)) sets.add(client.set(key, 100, key));
        for (Future<Boolean> set : sets) check(set.get(), "one of many sets");
        Map<String, Object> found = client.getBulk(keys);
        check(found.size() == 1900 && "m7".equals(found.get("m7")), "many");
        String big = "x".repeat(900_000);
        Transcoder<Object> plain = new SerializingTranscoder() {{ setCompressionThreshold(1 << 30); }};
        check(client.set("big", 100, big, plain).get() && big.equals(client.get("big", plain)), "a large one");
        check(client.delete("a").get() && !client.delete("a").get(), "delete");
        check(client.getVersions().values().iterator().next().startsWith("1.6."), "version");
        check(client.getStats().values().iterator().next().containsKey("curr_items"), "stats");
        check(client.getStats("settings").values().iterator().next().containsKey("maxbytes"), "stats settings");
        check(client.flush().get() && client.get("m7") == null, "flush");
        client.shutdown();
        System.out.println("fine " + checked);
        System.exit(0);
    }
}
