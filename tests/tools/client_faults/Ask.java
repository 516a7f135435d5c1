// Asks spymemcached for some seconds. Arguments: host port seconds.
import java.net.InetSocketAddress;
import java.util.List;
import net.spy.memcached.*;

public class Ask {
    public static void main(String[] given) throws Exception {
        MemcachedClient client = new MemcachedClient(List.of(new InetSocketAddress(given[0], Integer.parseInt(given[1]))));
        int keys = Integer.parseInt(System.getenv("KEYS"));
        long end = System.currentTimeMillis() + (long) (Double.parseDouble(given[2]) * 1000);
        for (int n = 0; System.currentTimeMillis() < end; n++) {
            String key = "key" + n % keys, said;
            double from = System.currentTimeMillis() / 1e3;
            long start = System.nanoTime();
            try {
                said = client.get(key) == null ? "miss" : "hit";
                if (said.equals("miss")) client.set(key, 60, "value").get();
            } catch (Exception error) {
                said = "error " + error.getClass().getSimpleName();
            }
            System.out.printf("%.3f %.1f %s%n", from, (System.nanoTime() - start) / 1e6, said);
            Thread.sleep(10);
        }
        System.exit(0);
    }
}
