package session

var (
	Look     = (*Manager).look
	Describe = describe
)
