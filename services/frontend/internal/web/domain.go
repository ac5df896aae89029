package web

// domain holds the texts that depend on the domain of use.
type domain struct {
	// Greeting is above an empty conversation; Prompts, below it, are examples that fit the domain.
	Greeting string
	Prompts  []string

	// Notice is always below the composer.
	Notice string
}

func domainOf(name string) domain {
	if name == "healthcare" {
		return domain{
			Greeting: "What would you like to understand?",
			Prompts: []string{
				"Explain in plain words what an HbA1c value says.",
				"Summarise this discharge letter for the patient: ",
				"Which questions should I ask at a first anamnesis for chest pain?",
				"Draft a leaflet on how to measure blood pressure at home.",
			},
			Notice: "Not a medical device. For information and drafts only, not for diagnosis or " +
				"treatment; a qualified person must check every answer.",
		}
	}

	return domain{
		Greeting: "What are you working on?",
		Prompts: []string{
			"Explain what this error means and how to fix it: ",
			"Write a Go function that retries with exponential backoff.",
			"Review this SQL query for mistakes and slow parts: ",
			"Compare a mutex and a channel for guarding a map in Go.",
		},
		Notice: "Answers can be wrong. Check what matters.",
	}
}
