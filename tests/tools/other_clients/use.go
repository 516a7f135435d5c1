// Ordinary use of gomemcache. Argument: host:port.
package main

import (
	"bytes"
	"fmt"
	"os"

	"github.com/bradfitz/gomemcache/memcache"
)

var checked int

func check(is bool, what string) {
	if !is {
		fmt.Fprintln(os.Stderr, "not so:", what)
		os.Exit(1)
	}
	checked++
}

func main() {
	client := memcache.New(os.Args[1])
	client.Timeout = 5e9
	check(client.FlushAll() == nil, "flush")
	check(client.Set(&memcache.Item{Key: "a", Value: []byte("1"), Flags: 7, Expiration: 100}) == nil, "set")
	item, err := client.Get("a")
	check(err == nil && string(item.Value) == "1" && item.Flags == 7, "get")
	_, err = client.Get("never")
	check(err == memcache.ErrCacheMiss, "a miss")
	check(client.Add(&memcache.Item{Key: "a", Value: []byte("2")}) == memcache.ErrNotStored, "add")
	check(client.Add(&memcache.Item{Key: "new", Value: []byte("2")}) == nil, "add of what is new")
	item.Value = []byte("5")
	check(client.CompareAndSwap(item) == nil, "cas")
	check(client.CompareAndSwap(item) == memcache.ErrCASConflict, "cas of what has changed")
	n, err := client.Increment("a", 3)
	check(err == nil && n == 8, "incr")
	n, err = client.Decrement("a", 100)
	check(err == nil && n == 0, "decr")
	_, err = client.Increment("never", 1)
	check(err == memcache.ErrCacheMiss, "incr of nothing")
	check(client.Touch("a", 100) == nil && client.Touch("never", 100) == memcache.ErrCacheMiss, "touch")
	keys := []string{}
	for n := 0; n < 220; n++ {
		keys = append(keys, fmt.Sprintf("m%d", n))
		if n < 200 {
			check(client.Set(&memcache.Item{Key: keys[n], Value: []byte(keys[n])}) == nil, "set")
		}
	}
	found, err := client.GetMulti(keys)
	check(err == nil && len(found) == 200 && string(found["m7"].Value) == "m7", "many")
	big := bytes.Repeat([]byte("x"), 900000)
	check(client.Set(&memcache.Item{Key: "big", Value: big}) == nil, "a large one")
	item, err = client.Get("big")
	check(err == nil && bytes.Equal(item.Value, big), "a large one comes back")
	check(client.Set(&memcache.Item{Key: "huge", Value: bytes.Repeat(big, 2)}) != nil, "one that is too large")
	item, err = client.Get("m7")
	check(err == nil && string(item.Value) == "m7", "usable behind it")
	check(client.Delete("a") == nil && client.Delete("a") == memcache.ErrCacheMiss, "delete")
	check(client.FlushAll() == nil, "flush")
	_, err = client.Get("m7")
	check(err == memcache.ErrCacheMiss, "after the flush")
	fmt.Println("fine", checked)
}
