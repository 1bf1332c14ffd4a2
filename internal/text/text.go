// Package text has words for people: counts with their nouns, and the nearest known word for a mistyped one.
//
// Errors about a Corefile, log lines and the status page use it, so that all of them say such things alike.
package text

import (
	"fmt"
	"strings"
)

// Count is a number with its noun, such as "1 value" or "3 checks".
func Count(n int, noun string) string {
	switch {
	case n == 1:
		return "1 " + noun
	case strings.HasSuffix(noun, "s"):
		return fmt.Sprintf("%d %ses", n, noun)
	default:
		return fmt.Sprintf("%d %ss", n, noun)
	}
}

// Counted is a number with what is said of one or of many, such as "1 record is" or "2 records are".
func Counted(n int, one, many string) string {
	return fmt.Sprintf("%d %s", n, Plural(n, one, many))
}

// Plural is what is said of one or of many, without the number.
func Plural(n int, one, many string) string {
	if n == 1 {
		return one
	}
	return many
}

// Suggest is the end of an error about an unknown word: the nearest known word, or all of them if none is near.
func Suggest(word string, known []string) string {
	if nearest := DidYouMean(word, known); nearest != "" {
		return nearest
	}
	return ": use one of " + strings.Join(known, ", ")
}

// DidYouMean is the end of an error about a word that may be mistyped: the nearest known word, or nothing if none is near.
// Near is an edit distance of at most a third of the word, or of one.
func DidYouMean(word string, known []string) string {
	best, distance := "", max(len(word)/3, 1)+1
	for _, k := range known {
		if d := editDistance(word, k); d < distance {
			best, distance = k, d
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf(": did you mean %q?", best)
}

// editDistance is how many letters have to be added, removed, changed or swapped with the next one to turn a into b (optimal
// string alignment).
func editDistance(a, b string) int {
	rows := make([][]int, len(a)+1)
	for i := range rows {
		rows[i] = make([]int, len(b)+1)
		rows[i][0] = i
	}
	for j := range len(b) + 1 {
		rows[0][j] = j
	}
	for i := range len(a) {
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			d := min(rows[i][j+1]+1, rows[i+1][j]+1, rows[i][j]+cost)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				d = min(d, rows[i-1][j-1]+1)
			}
			rows[i+1][j+1] = d
		}
	}
	return rows[len(a)][len(b)]
}
