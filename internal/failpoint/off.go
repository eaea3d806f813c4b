//go:build !failpoints

package failpoint

// Enabled says whether the program was built with the tag failpoints.
const Enabled = false

// Reach does nothing in a program built without the tag failpoints.
func Reach(_ Point, _, _ string) {}
