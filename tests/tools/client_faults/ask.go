// Asks gomemcache for some seconds. Arguments: host port seconds.
package main

import (
	"fmt"
	"os"
	"strconv"
	"time"

	"github.com/bradfitz/gomemcache/memcache"
)

func main() {
	client := memcache.New(os.Args[1] + ":" + os.Args[2])
	seconds, _ := strconv.ParseFloat(os.Args[3], 64)
	keys, _ := strconv.Atoi(os.Getenv("KEYS"))
	end := time.Now().Add(time.Duration(seconds * 1e9))
	for n := 0; time.Now().Before(end); n++ {
		key, from := fmt.Sprintf("key%d", n%keys), time.Now()
		_, err := client.Get(key)
		said := "hit"
		if err == memcache.ErrCacheMiss {
			said = "miss"
			client.Set(&memcache.Item{Key: key, Value: []byte("value"), Expiration: 60})
		} else if err != nil {
			said = "error " + err.Error()
		}
		fmt.Printf("%.3f %.1f %s\n", float64(from.UnixNano())/1e9, float64(time.Since(from).Microseconds())/1e3, said)
		time.Sleep(10 * time.Millisecond)
	}
}
