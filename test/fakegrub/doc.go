// Package fakegrub makes files that look like GRUB's to the tools that install
// GRUB. The code in them is noise, so they are small and belong to nobody.
package fakegrub
