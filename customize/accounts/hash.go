package accounts

import (
	"fmt"

	"imgbuild/customize"
)

// HashPasswords returns for each user the field of shadow(5) that [Apply] would
// write, "" where no password is given: what can be carried to another place without
// carrying the password.
func HashPasswords(sys *customize.System, users []User) ([]string, error) {
	s, err := load(sys)
	if err != nil {
		return nil, fmt.Errorf("accounts of the image: %w", err)
	}
	list := make([]string, len(users))
	for i := range users {
		list[i] = s.password(inUser(i, &users[i]), &users[i])
	}
	if len(s.problems) > 0 {
		return nil, s.problems
	}
	return list, nil
}
