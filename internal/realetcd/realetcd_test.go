//go:build unix

package realetcd

import (
	"context"
	"net"
	"testing"
	"time"
)

// A cluster answers, keeps its data when its servers are killed and started again, and is gone in the end.
func TestStart(t *testing.T) {
	t.Parallel()
	for name, o := range map[string]Options{"one": {}, "three": {Servers: 3}, "tls": {TLS: NewAuthority(t)}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var address string
			t.Run("servers", func(t *testing.T) {
				c := Start(t, o)
				address = c.Servers[0].Address
				client, ctx := c.Client(t), context.Background()
				if _, err := client.Put(ctx, "key", "value"); err != nil {
					t.Fatal(err)
				}
				for _, s := range c.Servers {
					s.Restart(t)
				}
				c.Wait(t)
				if got, err := client.Get(ctx, "key"); err != nil || len(got.Kvs) != 1 {
					t.Errorf("%v, %v", got, err)
				}
			})
			if conn, err := net.Dial("tcp", address); err == nil {
				conn.Close()
				t.Error("it still listens")
			}
		})
	}
}

// A stopped server answers nothing, and goes on where it was. With saved data, it has what it had then.
func TestStopAndSave(t *testing.T) {
	t.Parallel()
	c := Start(t, Options{})
	client, ctx, s := c.Client(t), context.Background(), c.Servers[0]
	if _, err := client.Put(ctx, "key", "old"); err != nil {
		t.Fatal(err)
	}
	s.Stop(t)
	short, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
	defer cancel()
	if _, err := client.Put(short, "key", "new"); err == nil {
		t.Error("a stopped server answers")
	}
	s.Cont(t)
	if memory, _ := s.Usage(); memory == 0 {
		t.Log("this system does not tell the memory of a process")
	}
	s.Kill()
	saved := s.SaveData(t)
	s.Restart(t)
	c.Wait(t)
	if _, err := client.Put(ctx, "key", "newer"); err != nil {
		t.Fatal(err)
	}
	s.Kill()
	s.LoadData(t, saved)
	s.Restart(t)
	c.Wait(t)
	if got, err := client.Get(ctx, "key"); err != nil || string(got.Kvs[0].Value) == "newer" {
		t.Errorf("%v, %v", got, err)
	}
}

// Once authentication is on, a user with a password is needed.
func TestEnableAuth(t *testing.T) {
	t.Parallel()
	c := Start(t, Options{})
	c.EnableAuth(t, "secret")
	ctx := context.Background()
	if _, err := c.Client(t).Get(ctx, "key"); err == nil {
		t.Error("a client without a password is answered")
	}
	if _, err := c.Client(t, "root", "secret").Get(ctx, "key"); err != nil {
		t.Error(err)
	}
}
