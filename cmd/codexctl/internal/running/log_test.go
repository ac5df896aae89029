package running

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// TestFollow follows a container that restarts and another that comes later.
func TestFollow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		var mu sync.Mutex
		asked := map[string][]LogOptions{}
		container := func(name string, started, before time.Time, runs time.Duration) Log {
			return Log{
				Source:  name,
				Started: started,
				Before:  before,
				Copy: func(ctx context.Context, o LogOptions, line Line) error {
					line(Replica{Name: name}, "a line")
					mu.Lock()
					asked[name] = append(asked[name], o)
					mu.Unlock()
					select {
					case <-ctx.Done():
					case <-time.After(runs):
					}
					return nil
				},
			}
		}

		first := LogOptions{Tail: 3, Follow: true, Since: begin.Add(-time.Minute)}
		var lines []string
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		err := Logs(ctx, first, func(r Replica, _ string) { lines = append(lines, r.Name) },
			func(context.Context) ([]Log, error) {
				switch now := time.Since(begin); {
				case now < 5*time.Second:
					return []Log{container("a", begin, time.Time{}, 3*time.Second)}, nil
				default:
					ended := begin.Add(4 * time.Second)
					return []Log{
						container("a", ended.Add(time.Second), ended, time.Hour),
						container("b", ended, time.Time{}, time.Second),
					}, nil
				}
			})
		if err != nil {
			t.Fatal(err)
		}

		later := LogOptions{Tail: -1, Follow: true}
		again := LogOptions{Tail: -1, Follow: true, Since: begin.Add(4 * time.Second)}
		if !slices.Equal(asked["a"], []LogOptions{first, again}) {
			t.Errorf("a was asked for %+v", asked["a"])
		}
		if !slices.Equal(asked["b"], []LogOptions{later}) {
			t.Errorf("b was asked for %+v", asked["b"])
		}

		slices.Sort(lines)
		if !slices.Equal(lines, []string{"a", "a", "b"}) {
			t.Errorf("lines of %v", lines)
		}
	})
}

// TestFollowFailingLooks checks that looks for other containers that fail now and then end nothing,
// and that those that keep failing do.
func TestFollowFailingLooks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begin, failure := time.Now(), errors.New("the engine is away")
		var lines []string
		err := Logs(t.Context(), LogOptions{Follow: true},
			func(r Replica, _ string) { lines = append(lines, r.Name) },
			func(context.Context) ([]Log, error) {
				now := time.Since(begin)
				if now > 0 && now < 9500*time.Millisecond || now > 11*time.Second {
					return nil, failure
				}

				name := "a"
				if now > 0 {
					name = "b"
				}

				return []Log{{Source: name, Copy: func(
					ctx context.Context, _ LogOptions, line Line,
				) error {
					line(Replica{Name: name}, "a line")
					<-ctx.Done()
					return nil
				}}}, nil
			})

		if after := time.Since(begin); !errors.Is(err, failure) || after < 20*time.Second {
			t.Errorf("%v after %s", err, after)
		}
		if !slices.Equal(lines, []string{"a", "b"}) {
			t.Errorf("lines of %v", lines)
		}
	})
}
