package web_test

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/codexcontinue/codexcontinue/services/frontend/domain"
	"github.com/codexcontinue/codexcontinue/services/frontend/internal/fakebackend"
	"github.com/codexcontinue/codexcontinue/services/internal/backendapi"
	"github.com/codexcontinue/codexcontinue/services/internal/mlapi"
	"github.com/codexcontinue/codexcontinue/services/internal/problem"
)

const sample = "A `sync.Mutex` guards memory, a channel hands work over. For a counter the mutex " +
	"is shorter **and** faster:\n\n" +
	"```go\n// Counter counts from many goroutines.\ntype Counter struct {\n\tmu sync.Mutex\n" +
	"\tn  map[string]int\n}\n\nfunc (c *Counter) Add(key string) {\n\tc.mu.Lock()\n" +
	"\tdefer c.mu.Unlock()\n\tc.n[key]++ // safe: nobody else holds mu\n}\n```\n\n" +
	"| | Mutex | Channel |\n|---|---|---|\n| Cost of one update | ~20 ns | ~200 ns |\n" +
	"| Ownership | shared | moves |\n\n" +
	"1. Keep the lock next to what it guards.\n2. Hold it for as short as you can.\n" +
	"   - Never call out while you hold it.\n\n" +
	"> Share memory by communicating, where the data has one owner at a time.\n"

// TestScreenshots saves pictures of every page in the folder of CODEXCONTINUE_SCREENSHOTS,
// for a person to look at.
func TestScreenshots(t *testing.T) {
	if os.Getenv("CODEXCONTINUE_SCREENSHOTS") == "" {
		t.Skip("CODEXCONTINUE_SCREENSHOTS is not set: no pictures are taken")
	}

	titles := []string{
		"Explain a data race report", "Retry with exponential backoff", "Index for a slow query",
		"Dockerfile from scratch", "Postgres connection pool size",
		"A very long title of a conversation that does not fit into the list at all",
	}

	play := func(message string, a *fakebackend.Answer) {
		switch message {
		case "queue":
			a.Queue(3)
			<-a.Stopped()
		case "fail":
			a.Text("This answer begins well, but the")
			a.Error(problem.New(502,
				"The model stopped answering. Its memory may have run out: try again."))
		case "think":
			a.LeftOut(12)
			a.Think("The user asks about a counter that many goroutines change.\n\n" +
				"A mutex guards it in 20 ns; a channel hands it over, which costs more. ")
			<-a.Stopped()
		case "thought":
			a.LeftOut(12)
			a.Think("The user asks about a counter that many goroutines change.\n\n" +
				"A mutex guards it in 20 ns; a channel hands it over, which costs more. I should " +
				"say when a channel is the better choice, and keep it short.")
			a.Text("Guard it with a `sync.Mutex`, or use `atomic.Int64` where the counter is all there is.")
			a.Done()
		case "stream":
			a.Text("Here is the beginning of an answer that is still being written, with code:\n" +
				"\n```python\ndef main():\n    print(")
			<-a.Stopped()
		default:
			a.Text(sample)
			a.Done()
		}
	}

	for _, size := range []struct {
		name string
		w, h int
	}{{"desktop", 1280, 800}, {"phone", 390, 844}} {
		for _, scheme := range []string{"light", "dark"} {
			t.Run(size.name+"-"+scheme, func(t *testing.T) {
				s := newSite(t, play)
				b := newBrowser(t, size.w, size.h)
				shot := func(name string) {
					b.screenshot(fmt.Sprintf("%s-%s-%s", name, size.name, scheme))
				}
				b.do(media("prefers-color-scheme", scheme), chromedp.Navigate(s.url+"/"),
					chromedp.WaitVisible("#message"))
				shot("empty")
				owner := ownerOf(t, b)
				now := time.Now()
				for i, title := range titles {
					at := now.Add(-time.Duration(i*i) * 9 * time.Hour)
					s.backend.Add(owner,
						backendapi.ConversationDetail{Conversation: backendapi.Conversation{
							ID:        fmt.Sprint("old", i),
							Title:     title,
							CreatedAt: at,
							UpdatedAt: at,
						}})
				}

				b.do(chromedp.Navigate(s.url + "/"))
				b.ask("Should I guard a counter with a mutex or a channel?")
				b.wait("document.querySelector('article.answer')?.dataset.state === 'complete'")
				b.wait("document.querySelectorAll('.item').length === 7")
				shot("chat")
				b.do(script("document.getElementById('scroll').scrollTop = 0"))
				b.wait("!document.getElementById('jump').hidden || innerHeight > 1000")
				shot("chat-top")
				if size.w < 700 {
					b.do(chromedp.Click("#open-drawer"))
					b.wait("document.body.classList.contains('drawer-open') && " +
						"document.getElementById('sidebar').getBoundingClientRect().left === 0")
					shot("drawer")
					b.do(chromedp.Navigate(s.url + "/"))
				}

				b.do(script("document.querySelector('.item .edit').click()"),
					chromedp.WaitVisible("#edit-dialog"))
				shot("rename")
				b.do(chromedp.Click("#ask-delete"), chromedp.WaitVisible("#delete-dialog"))
				shot("delete")
				b.do(chromedp.Navigate(s.url + "/"))
				b.ask("fail")
				b.wait("document.querySelector('.failure')")
				b.ask("queue")
				b.wait("document.body.innerText.includes('2 before you')")
				shot("queue-and-failure")
				b.do(chromedp.Click("#stop"))
				b.wait("document.getElementById('stop').hidden")
				b.do(chromedp.Navigate(s.url + "/"))
				b.ask("stream")
				b.wait("document.querySelector('.answer .code')")
				shot("stream")
				b.do(chromedp.Click("#stop"))
				b.wait("document.getElementById('stop').hidden")
				b.do(chromedp.Navigate(s.url + "/"))
				b.ask("think")
				b.wait("document.querySelector('.thoughts')?.textContent.includes('costs more')")
				shot("thinking")
				b.do(chromedp.Click(".thinking summary"))
				b.wait("document.querySelector('.thinking').open")
				shot("thinking-open")
				b.do(chromedp.Click("#stop"))
				b.wait("document.getElementById('stop').hidden")
				b.ask("thought")
				b.wait("document.querySelector('article.answer:last-of-type').dataset.state === 'complete'")
				shot("thought")
				b.do(script("document.querySelector('.edit-question').click()"))
				b.wait("document.querySelectorAll('.going').length === 3")
				b.noOverflow()
				shot("edit-question")
				b.do(chromedp.Navigate(value[string](b,
					"document.querySelector('.edit-question').href")), chromedp.WaitVisible("#question"))
				b.noOverflow()
				shot("edit-question-page")
				b.do(chromedp.Navigate(s.url + "/search?q=mutex"))
				b.wait("document.querySelector('mark')")
				b.noOverflow()
				shot("search")
				b.do(chromedp.Navigate(value[string](b,
					"document.querySelector('.results a').href + '/edit'")),
					chromedp.WaitVisible("#title"))
				shot("edit-conversation")
				s.backend.Add(owner, longConversation())
				s.backend.PageSize(4)
				b.do(chromedp.Navigate(s.url+"/c/long"),
					script("document.getElementById('scroll').scrollTop = 0"))
				shot("earlier")
				b.do(chromedp.Click("#earlier"))
				b.wait("document.querySelector('.past-note')")
				shot("earlier-page")
				s.backend.PageSize(0)
				b.do(chromedp.Navigate(s.url+"/"),
					script("window.fetch = () => Promise.reject(new TypeError('no network'))"))
				b.ask("A message that does not get through at once")
				b.wait("!document.getElementById('sending').hidden")
				shot("sending")
				b.do(chromedp.Navigate(s.url+"/"),
					script("window.slow = setTimeout; window.setTimeout = (f, ms) => slow(f, ms "+
						"/ 50); window.fetch = () => Promise.reject(new TypeError('no network'))"))
				b.do(chromedp.SendKeys("#message", "\r"))
				b.wait("!document.getElementById('alert-retry').hidden")
				shot("not-sent")
				building := mlapi.Build{
					Name:      "codexcontinue",
					State:     mlapi.BuildPulling,
					Detail:    "pulling 6a0746a1ec1a",
					Completed: 2100e6,
					Total:     4700e6,
				}

				s.backend.Build(building)

				s.backend.SetStatus(backendapi.Status{
					Status: backendapi.StatusDegraded,
					Model:  building,
					Services: []backendapi.ServiceStatus{
						{Name: "backend", Status: "ready", LatencyMS: .1},
						{
							Name:      "redis",
							Status:    "down",
							Detail:    "Connection refused. Is the container running?",
							LatencyMS: 2001.2,
						},
						{
							Name:      "ml",
							Status:    "degraded",
							Detail:    "The model is being pulled.",
							LatencyMS: 1.4,
						},
						{Name: "ollama", Status: "ready", LatencyMS: 2.5},
					},
				})

				b.do(chromedp.Navigate(s.url+"/"), chromedp.WaitVisible("progress"))
				shot("building")
				b.do(chromedp.Navigate(s.url+"/status"), chromedp.WaitVisible(".services"))
				shot("status")
				b.expect("404")
				b.do(chromedp.Navigate(s.url+"/nowhere"), chromedp.WaitVisible(".lead"))
				shot("missing")
			})
		}
	}

	t.Run("readme", func(t *testing.T) {
		s := newSite(t, func(_ string, a *fakebackend.Answer) {
			a.Text(sample[:strings.Index(sample, "| | Mutex")] +
				"1. Keep the lock next to what it guards.\n2. Hold it for as short as you can.\n")
			a.Done()
		})

		b := newBrowser(t, 1280, 800)
		b.do(media("prefers-color-scheme", "light"), chromedp.Navigate(s.url+"/"),
			chromedp.WaitVisible("#message"))
		owner, now := ownerOf(t, b), time.Now()
		for i, title := range titles[:5] {
			at := now.Add(-time.Duration(i*i+i) * 15 * time.Hour)
			s.backend.Add(owner,
				backendapi.ConversationDetail{Conversation: backendapi.Conversation{
					ID:        fmt.Sprint("old", i),
					Title:     title,
					CreatedAt: at,
					UpdatedAt: at,
				}})
		}

		b.do(chromedp.Navigate(s.url + "/"))
		b.ask("Mutex or channel for a counter?")
		b.wait("document.querySelector('article.answer')?.dataset.state === 'complete' && " +
			"document.querySelectorAll('.item').length === 6")
		b.do(script("document.activeElement.blur()"))
		b.screenshot("readme")
	})

	t.Run("down", func(t *testing.T) {
		s := newSiteAt(t, nil, "http://127.0.0.1:1", func(d *domain.Texts) {
			d.Title, d.Greeting = "CareAssist", "What would you like to understand?"
			d.Notice = "Not a medical device. For information and drafts only, not for " +
				"diagnosis or treatment; a qualified person must check every answer."
		})
		b := newBrowser(t, 1280, 800)
		b.do(chromedp.Navigate(s.url+"/"), chromedp.WaitVisible("#model-state .banner"))
		b.screenshot("down-healthcare")
	})
}
