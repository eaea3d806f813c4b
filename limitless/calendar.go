package limitless

import (
	"slices"
	"time"
)

// instructionDays is the length of the school year.
const instructionDays = 180

// day is a weekday of the school year.
type day struct {
	date   string
	events []string // codes of domain day_event
	instr  bool
}

// yearCalendar is the school year of every school of the district: 180 days of instruction from August to June.
type yearCalendar struct {
	days   []day
	instr  []string // dates of instruction, in order
	places []int    // index in days of each of them
}

// newYearCalendar lays out the school year that ends in year.
func newYearCalendar(year int) yearCalendar {
	var c yearCalendar
	off := holidays(year)
	work := []string{nthWeekday(year-1, time.October, time.Friday, 3), nthWeekday(year, time.January, time.Monday, 2)}
	weather := nthWeekday(year, time.February, time.Wednesday, 2)
	date := time.Date(year-1, time.August, 18, 0, 0, 0, 0, time.UTC)
	for fridays := 0; len(c.instr) < instructionDays; date = date.AddDate(0, 0, 1) {
		if date.Weekday() == time.Saturday || date.Weekday() == time.Sunday {
			continue
		}
		d := day{date: date.Format(time.DateOnly)}
		switch {
		case slices.Contains(off, d.date):
			d.events = []string{"HOL"}
		case slices.Contains(work, d.date):
			d.events = []string{"TWD"}
		case d.date == weather:
			d.events = []string{"WX"}
		default:
			d.events, d.instr = []string{"SD"}, true
			if date.Weekday() == time.Friday {
				if fridays++; fridays%2 == 0 {
					d.events = append(d.events, "ERD")
				}
			}
		}
		c.days = append(c.days, d)
		if d.instr {
			c.instr = append(c.instr, d.date)
			c.places = append(c.places, len(c.days)-1)
		}
	}
	return c
}

// holidays are the dates without school.
func holidays(year int) []string {
	out := []string{
		nthWeekday(year-1, time.September, time.Monday, 1), // Labor Day
		nthWeekday(year-1, time.October, time.Monday, 2),   // fall break
		nthWeekday(year, time.January, time.Monday, 3),     // Martin Luther King Jr. Day
		nthWeekday(year, time.February, time.Monday, 3),    // Presidents' Day
	}
	thanksgiving, _ := time.Parse(time.DateOnly, nthWeekday(year-1, time.November, time.Thursday, 4))
	out = append(out, span(thanksgiving.AddDate(0, 0, -1), 3)...)
	out = append(out, span(time.Date(year-1, time.December, 22, 0, 0, 0, 0, time.UTC), 13)...) // winter break
	spring, _ := time.Parse(time.DateOnly, nthWeekday(year, time.March, time.Monday, 3))
	return append(out, span(spring, 5)...)
}

func span(from time.Time, days int) []string {
	var out []string
	for i := range days {
		out = append(out, from.AddDate(0, 0, i).Format(time.DateOnly))
	}
	return out
}

// nthWeekday is the date of a month's nth such weekday.
func nthWeekday(year int, month time.Month, weekday time.Weekday, n int) string {
	first := time.Date(year, month, 1, 0, 0, 0, 0, time.UTC)
	ahead := (int(weekday) - int(first.Weekday()) + 7) % 7
	return first.AddDate(0, 0, ahead+7*(n-1)).Format(time.DateOnly)
}

// dateIn is the date a number of days after the first of a year.
func dateIn(year, days int) string {
	return time.Date(year, time.January, 1+days, 0, 0, 0, 0, time.UTC).Format(time.DateOnly)
}
