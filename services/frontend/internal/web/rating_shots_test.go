package web_test

import (
	"os"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/codexcontinue/codexcontinue/services/frontend/internal/fakebackend"
	"github.com/codexcontinue/codexcontinue/services/internal/backendapi"
)

// TestRatingScreenshots saves pictures of what people rate, hand over and review in the folder of
// CODEXCONTINUE_SCREENSHOTS, in both sizes and schemes, and holds that nothing is wider than the
// window.
func TestRatingScreenshots(t *testing.T) {
	if os.Getenv("CODEXCONTINUE_SCREENSHOTS") == "" {
		t.Skip("CODEXCONTINUE_SCREENSHOTS is not set: no pictures are taken")
	}

	play := func(_ string, a *fakebackend.Answer) {
		a.Text("A list is safe for that: Go's `append` never moves what another goroutine reads.")
		a.Done()
	}
	for size, wide := range map[string]bool{"desktop": true, "phone": false} {
		for _, scheme := range []string{"light", "dark"} {
			t.Run(size+"-"+scheme, func(t *testing.T) {
				w, h := 390, 844
				if wide {
					w, h = 1280, 800
				}
				s := newSite(t, play)
				b := newBrowser(t, w, h)
				shot := func(name string) {
					b.noOverflow()
					b.screenshot("rating-" + name + "-" + size + "-" + scheme)
				}

				b.do(media("prefers-color-scheme", scheme), chromedp.Navigate(s.url+"/"),
					chromedp.WaitVisible("#message"))
				b.ask("May several goroutines append to one slice?")
				b.wait(lastComplete)
				b.do(chromedp.Click(".rate [data-verdict=down]"))
				b.wait("document.querySelector('.say-why').checkVisibility()")
				shot("chat")
				b.do(chromedp.Click(".say-why"), chromedp.WaitVisible(".submission"),
					chromedp.SendKeys("[name=note]", "It is a data race"),
					chromedp.SendKeys("[name=correction]", "No: guard it with a mutex."))
				shot("form")
				b.do(script("document.querySelector('[name=consent]').scrollIntoView({block: 'end'})"))
				shot("consent")
				b.do(chromedp.Click("[name=consent]"), chromedp.Click(".submission .primary"))
				b.wait("document.body.innerText.includes('It has been handed over')")
				shot("sent")
				b.do(chromedp.Navigate(s.url+"/submissions"), chromedp.WaitVisible(".card"))
				shot("submissions")

				s.backend.Hand("ada", backendapi.Submission{
					ID: "g9", Verdict: "up", Reason: "helpful", Model: "codexcontinue",
					Question: "How do we call the branch of a release?", Answer: "release/1.2",
				}, 49*time.Hour)
				b.expect("403")
				b.do(chromedp.Navigate(s.url+"/review"), chromedp.WaitVisible(".plain-page"))
				shot("review-refused")
				admin := s.admin().jar.m[ownerCookie]
				b.do(script("document.cookie = '"+admin.Name+"="+admin.Value+"; path=/'"),
					chromedp.Navigate(s.url+"/review"), chromedp.WaitVisible(".submission"))
				shot("review")
			})
		}
	}
}
