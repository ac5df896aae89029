package words

// Knows reports whether a word of a text is in the files of the index, removed or not.
func (x *Index) Knows(word string) (bool, error) {
	d, err := x.bleve.FieldDict(fieldText)
	if err != nil {
		return false, err
	}
	defer d.Close()
	for {
		e, err := d.Next()
		if err != nil || e == nil {
			return false, err
		}
		if e.Term == word {
			return true, nil
		}
	}
}
