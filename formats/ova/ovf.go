package ova

import (
	"fmt"
	"strings"

	"imgbuild/partition"
)

// sizeDigits is the length of the longest size in the descriptor, in digits: that
// of 2^63.
const sizeDigits = 19

// machine is what the descriptor says.
type machine struct {
	Name       string
	Disk       string // name of the file
	FileSize   int64  // in bytes
	Capacity   int64  // of the disk in bytes
	Populated  int64  // of that in bytes
	CPUs       int
	Memory     int // in MiB
	Firmware   Firmware
	SecureBoot bool
	Hardware   int
	MachineID  partition.GUID
	DiskID     partition.GUID
	MAC        [6]byte
}

// newMachine returns the machine of the options, with the identifiers that derive
// from theirs.
func newMachine(opt Options, capacity int64) machine {
	derive := func(name string) partition.GUID { return partition.DeriveGUID(opt.UUID[:], name) }
	m := machine{
		Name:       opt.Name,
		Disk:       opt.Name + ".vmdk",
		Capacity:   capacity,
		CPUs:       opt.CPUs,
		Memory:     opt.MemoryMiB,
		Firmware:   opt.Firmware,
		SecureBoot: opt.SecureBoot,
		Hardware:   opt.HardwareVersion,
		MachineID:  derive("machine"),
		DiskID:     derive("disk"),
		MAC:        [6]byte{0x08, 0x00, 0x27}, // the prefix that VirtualBox uses
	}
	address := derive("network adapter")
	copy(m.MAC[3:], address[:3])
	return m
}

// VirtualBoxMAC returns the address as VirtualBox writes it.
func (m machine) VirtualBoxMAC() string { return fmt.Sprintf("%X", m.MAC[:]) }

// VirtualBoxFirmware returns the firmware as VirtualBox calls it.
func (m machine) VirtualBoxFirmware() string { return strings.ToUpper(m.Firmware.String()) }

// descriptor returns the OVF descriptor. Its length does not depend on FileSize
// and Populated, which are known only behind it.
func (m machine) descriptor() ([]byte, error) {
	text := strings.NewReplacer(
		"{{.Disk}}", m.Disk, "{{.FileSize}}", fmt.Sprint(m.FileSize), "{{.Capacity}}", fmt.Sprint(m.Capacity), "{{.Populated}}", fmt.Sprint(m.Populated),
		"{{.DiskID}}", m.DiskID.String(), "{{.MachineID}}", m.MachineID.String(), "{{.Name}}", m.Name,
		"{{.Hardware}}", fmt.Sprint(m.Hardware), "{{.CPUs}}", fmt.Sprint(m.CPUs), "{{.Memory}}", fmt.Sprint(m.Memory),
		"{{.SecureBoot}}", fmt.Sprint(m.SecureBoot), "{{.Firmware}}", m.Firmware.String(),
		"{{.VirtualBoxFirmware}}", m.VirtualBoxFirmware(), "{{.VirtualBoxMAC}}", m.VirtualBoxMAC(),
	).Replace(descriptorTemplate)
	used := len(fmt.Sprint(m.FileSize)) + len(fmt.Sprint(m.Populated))
	return []byte(text + strings.Repeat("\n", 2*sizeDigits-used)), nil
}

// descriptorTemplate is the descriptor of image-builder (stage org.osbuild.ovf),
// which VMware and VirtualBox import. A network adapter is only in the part for
// VirtualBox: in vSphere the network is chosen at the import. It is filled in by
// hand: text/template would keep every method of every library in the program.
const descriptorTemplate = `<?xml version="1.0" encoding="UTF-8"?>
<Envelope xmlns="http://schemas.dmtf.org/ovf/envelope/1" xmlns:ovf="http://schemas.dmtf.org/ovf/envelope/1" xmlns:rasd="http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_ResourceAllocationSettingData" xmlns:vbox="http://www.virtualbox.org/ovf/machine" xmlns:vmw="http://www.vmware.com/schema/ovf" xmlns:vssd="http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_VirtualSystemSettingData">
  <References>
    <File ovf:href="{{.Disk}}" ovf:id="file1" ovf:size="{{.FileSize}}"/>
  </References>
  <DiskSection>
    <Info>Virtual disk information</Info>
    <Disk ovf:capacity="{{.Capacity}}" ovf:capacityAllocationUnits="byte" ovf:diskId="vmdisk1" ovf:fileRef="file1" ovf:format="http://www.vmware.com/interfaces/specifications/vmdk.html#streamOptimized" ovf:populatedSize="{{.Populated}}" vbox:uuid="{{.DiskID}}"/>
  </DiskSection>
  <NetworkSection>
    <Info>The list of logical networks</Info>
  </NetworkSection>
  <VirtualSystem ovf:id="{{.Name}}">
    <Info>A virtual machine</Info>
    <Name>{{.Name}}</Name>
    <OperatingSystemSection ovf:id="100" vmw:osType="other26xLinux64Guest">
      <Info>The kind of installed guest operating system</Info>
    </OperatingSystemSection>
    <VirtualHardwareSection ovf:transport="com.vmware.guestInfo">
      <Info>Virtual hardware requirements</Info>
      <System>
        <vssd:ElementName>Virtual Hardware Family</vssd:ElementName>
        <vssd:InstanceID>0</vssd:InstanceID>
        <vssd:VirtualSystemIdentifier>{{.Name}}</vssd:VirtualSystemIdentifier>
        <vssd:VirtualSystemType>vmx-{{.Hardware}}</vssd:VirtualSystemType>
      </System>
      <Item>
        <rasd:AllocationUnits>hertz * 10^6</rasd:AllocationUnits>
        <rasd:Description>Number of Virtual CPUs</rasd:Description>
        <rasd:ElementName>{{.CPUs}} virtual CPU(s)</rasd:ElementName>
        <rasd:InstanceID>1</rasd:InstanceID>
        <rasd:ResourceType>3</rasd:ResourceType>
        <rasd:VirtualQuantity>{{.CPUs}}</rasd:VirtualQuantity>
      </Item>
      <Item>
        <rasd:AllocationUnits>byte * 2^20</rasd:AllocationUnits>
        <rasd:Description>Memory Size</rasd:Description>
        <rasd:ElementName>{{.Memory}} MB of memory</rasd:ElementName>
        <rasd:InstanceID>2</rasd:InstanceID>
        <rasd:ResourceType>4</rasd:ResourceType>
        <rasd:VirtualQuantity>{{.Memory}}</rasd:VirtualQuantity>
      </Item>
      <Item ovf:required="false">
        <rasd:AutomaticAllocation>false</rasd:AutomaticAllocation>
        <rasd:ElementName>VirtualVMCIDevice</rasd:ElementName>
        <rasd:InstanceID>7</rasd:InstanceID>
        <rasd:ResourceSubType>vmware.vmci</rasd:ResourceSubType>
        <rasd:ResourceType>1</rasd:ResourceType>
        <vmw:Config ovf:required="false" vmw:key="allowUnrestrictedCommunication" vmw:value="false"/>
      </Item>
      <Item>
        <rasd:Address>0</rasd:Address>
        <rasd:Description>SCSI Controller</rasd:Description>
        <rasd:ElementName>SCSI Controller 0</rasd:ElementName>
        <rasd:InstanceID>3</rasd:InstanceID>
        <rasd:ResourceSubType>VirtualSCSI</rasd:ResourceSubType>
        <rasd:ResourceType>6</rasd:ResourceType>
      </Item>
      <Item>
        <rasd:Address>0</rasd:Address>
        <rasd:Description>IDE Controller</rasd:Description>
        <rasd:ElementName>VirtualIDEController 0</rasd:ElementName>
        <rasd:InstanceID>4</rasd:InstanceID>
        <rasd:ResourceType>5</rasd:ResourceType>
      </Item>
      <Item>
        <rasd:AddressOnParent>0</rasd:AddressOnParent>
        <rasd:ElementName>Hard disk 0</rasd:ElementName>
        <rasd:HostResource>ovf:/disk/vmdisk1</rasd:HostResource>
        <rasd:InstanceID>5</rasd:InstanceID>
        <rasd:Parent>3</rasd:Parent>
        <rasd:ResourceType>17</rasd:ResourceType>
        <vmw:Config ovf:required="false" vmw:key="backing.writeThrough" vmw:value="false"/>
      </Item>
      <vmw:Config ovf:required="false" vmw:key="bootOptions.efiSecureBootEnabled" vmw:value="{{.SecureBoot}}"/>
      <vmw:Config ovf:required="false" vmw:key="firmware" vmw:value="{{.Firmware}}"/>
    </VirtualHardwareSection>
    <vbox:Machine ovf:required="false" version="1.16-linux" uuid="{{.MachineID}}" name="{{.Name}}" OSType="OtherLinux_64" snapshotFolder="Snapshots">
      <ovf:Info>Complete VirtualBox machine configuration in VirtualBox format</ovf:Info>
      <Hardware>
        <CPU count="{{.CPUs}}">
          <PAE enabled="true"/>
          <LongMode enabled="true"/>
          <X2APIC enabled="true"/>
          <HardwareVirtExLargePages enabled="false"/>
        </CPU>
        <Memory RAMSize="{{.Memory}}"/>
        <Firmware type="{{.VirtualBoxFirmware}}"/>
        <Boot>
          <Order position="1" device="HardDisk"/>
          <Order position="2" device="DVD"/>
          <Order position="3" device="None"/>
          <Order position="4" device="None"/>
        </Boot>
        <BIOS>
          <IOAPIC enabled="true"/>
          <SmbiosUuidLittleEndian enabled="true"/>
        </BIOS>
        <Network>
          <Adapter slot="0" enabled="true" MACAddress="{{.VirtualBoxMAC}}" type="82540EM">
            <NAT/>
          </Adapter>
        </Network>
        <AudioAdapter driver="OSS" enabledIn="false" enabledOut="false"/>
        <Clipboard/>
      </Hardware>
      <StorageControllers>
        <StorageController name="IDE Controller" type="PIIX4" PortCount="2" useHostIOCache="true" Bootable="true">
          <AttachedDevice type="HardDisk" hotpluggable="false" port="0" device="0">
            <Image uuid="{{.DiskID}}"/>
          </AttachedDevice>
        </StorageController>
      </StorageControllers>
    </vbox:Machine>
  </VirtualSystem>
</Envelope>
`
