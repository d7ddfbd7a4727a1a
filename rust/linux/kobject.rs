// SPDX-License-Identifier: GPL-2.0

//! `struct kobject`: directories in sysfs, whose files show one value each (include/linux/kobject.h, include/linux/sysfs.h).
//!
//! The type of a filesystem has `/sys/fs/<name>` while it is registered; in it each mount has a [`Directory`], with files and
//! groups of files. Dropping a directory waits for whoever is reading one of its files, so nothing is shown of what is gone.

use crate::completion::Completion;
use cairnfs_bindings as bindings;
use core::fmt;
use core::marker::PhantomData;
use core::mem::MaybeUninit;
use core::pin::Pin;
use core::ptr;
use core::sync::atomic::{AtomicPtr, Ordering};
use kernel::alloc::{flags::GFP_KERNEL, KBox};
use kernel::error::code::{ENODEV, ENOMEM};
use kernel::error::{to_result, Result};
use kernel::ffi;
use kernel::prelude::{pin_data, pin_init, InPlaceInit};
use kernel::str::CStr;
use kernel::sync::Arc;
use kernel::types::Opaque;

const PAGE_BYTES: usize = 1 << bindings::PAGE_SHIFT;

/// The directory of a type of filesystem, in a static.
///
/// # Invariants
///
/// Null, or a kobject that stays as long as the type is registered.
pub(crate) struct Root(AtomicPtr<bindings::kobject>);

impl Root {
    pub(crate) const fn new() -> Self {
        // INVARIANT: It is null.
        Self(AtomicPtr::new(ptr::null_mut()))
    }

    /// It as a parent, for one who keeps the type registered for as long.
    pub(crate) fn parent(&self) -> Parent<'_> {
        Parent(self.0.load(Ordering::Acquire), PhantomData)
    }
}

/// A root that exists.
///
/// # Invariants
///
/// The kobject is there until this is dropped.
pub(crate) struct Registration(&'static Root);

impl Registration {
    pub(crate) fn new(root: &'static Root, name: &CStr) -> Result<Self> {
        // SAFETY: `/sys/fs` exists as long as the kernel runs; the name is copied.
        let created = unsafe { bindings::kobject_create_and_add(name.as_char_ptr(), bindings::fs_kobj) };
        if created.is_null() {
            return Err(ENOMEM);
        }
        // INVARIANT: Just created.
        root.0.store(created, Ordering::Release);
        Ok(Self(root))
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        let root = self.0 .0.swap(ptr::null_mut(), Ordering::AcqRel);
        // SAFETY: By the type invariants it is there, and the reference is this one's. It is freed by code of the kernel.
        unsafe { bindings::kobject_put(root) };
    }
}

/// Where a directory may be made.
///
/// # Invariants
///
/// Null, or a kobject that stays for all of `'a`.
pub struct Parent<'a>(*mut bindings::kobject, PhantomData<&'a ()>);

/// A file of a directory over data of type `T`: its name, and what it shows.
///
/// # Invariants
///
/// The name is static.
#[repr(C)]
pub struct Attribute<T> {
    attribute: bindings::attribute,
    show: fn(&T, &mut Text<'_>) -> Result,
}

// SAFETY: Never changed after construction, but for what lockdep keeps at the address of the key in it, under its own lock; what
// it points to is static and never changed.
unsafe impl<T> Sync for Attribute<T> {}

impl<T> Attribute<T> {
    /// A file that all may read. `show` is called for each read, with nothing locked; it must not wait for who drops the directory.
    pub const fn new(name: &'static CStr, show: fn(&T, &mut Text<'_>) -> Result) -> Self {
        // SAFETY: An attribute without a name is valid as a value.
        let mut attribute: bindings::attribute = unsafe { MaybeUninit::zeroed().assume_init() };
        attribute.name = name.as_char_ptr();
        attribute.mode = 0o444;
        // INVARIANT: The name is static.
        Self { attribute, show }
    }

    const fn as_ptr(&'static self) -> *const bindings::attribute {
        &raw const self.attribute
    }
}

/// Files of a directory: in itself, or, where the group has a name, in a directory in it.
pub struct Group<T: 'static> {
    name: Option<&'static CStr>,
    attributes: &'static [Attribute<T>],
}

impl<T> Group<T> {
    /// A file for each attribute.
    pub const fn new(name: Option<&'static CStr>, attributes: &'static [Attribute<T>]) -> Self {
        Self { name, attributes }
    }
}

/// The text of a file that is being read: a page, of which it takes what fits.
///
/// # Invariants
///
/// `page` is a page that is writable for the lifetime, by nobody else; `bytes` of it are written, less than all.
pub struct Text<'a> {
    page: *mut ffi::c_char,
    bytes: usize,
    _page: PhantomData<&'a mut [u8]>,
}

impl Text<'_> {
    /// Appends formatted text.
    pub fn print(&mut self, text: fmt::Arguments<'_>) {
        // SAFETY: By the type invariants the page is writable, and there is something left of it; `%pA` takes a pointer to arguments,
        // which live long enough.
        let added = unsafe {
            bindings::sysfs_emit_at(
                self.page,
                self.bytes as ffi::c_int,
                c"%pA".as_ptr().cast(),
                (&raw const text).cast::<ffi::c_void>(),
            )
        };
        // INVARIANT: What is added, with a NUL behind it that is not counted, fits in what was left.
        self.bytes = self.bytes.saturating_add(usize::try_from(added).unwrap_or(0)).min(PAGE_BYTES - 1);
    }
}

/// The kobject, and what its files show.
#[pin_data]
#[repr(C)]
struct Object<T> {
    #[pin]
    kobject: Opaque<bindings::kobject>,
    /// Completed by the kobject's release.
    #[pin]
    released: Completion,
    data: Arc<T>,
}

/// A directory. Dropping it removes it, with all that is in it, and waits for those who are still reading.
///
/// # Invariants
///
/// The kobject was initialised, and one reference to it is this value's.
pub struct Directory<T: Send + Sync + 'static>(Pin<KBox<Object<T>>>);

// SAFETY: The functions that work on a kobject are made to be called by several threads at once; the data is `Send` and `Sync`.
unsafe impl<T: Send + Sync> Send for Directory<T> {}
// SAFETY: As above.
unsafe impl<T: Send + Sync> Sync for Directory<T> {}

impl<T: Send + Sync + 'static> Directory<T> {
    /// A directory with the files of all groups. `data` is kept until nobody can be reading it by this any more; so it must not own the
    /// directory for good, or neither would ever go.
    pub fn new(parent: &Parent<'_>, name: &CStr, data: Arc<T>, groups: &'static [Group<T>]) -> Result<Self> {
        if parent.0.is_null() {
            return Err(ENODEV);
        }
        let object = KBox::pin_init(
            pin_init!(Object {
                // SAFETY: The slot is writable. A kobject has to be zero before it is initialised.
                kobject <- Opaque::ffi_init(|slot: *mut bindings::kobject| unsafe { slot.write_bytes(0, 1) }),
                released <- Completion::new(),
                data,
            }),
            GFP_KERNEL,
        )?;
        let kobject = object.kobject.get();
        // SAFETY: The kobject is zero, and stays where it is; the type is static and fits the object; the parent is valid, by its
        // invariants, and referred to from here on; the name is copied.
        let status = unsafe {
            bindings::cairnfs_helper_kobject_init_and_add(
                kobject,
                Table::<T>::TYPE,
                parent.0,
                name.as_char_ptr(),
            )
        };
        // INVARIANT: It is initialised, also where it could not be added, and has one reference.
        let directory = Self(object);
        to_result(status)?;
        for group in groups {
            // SAFETY: The kobject is in sysfs.
            unsafe { add_group(kobject, group) }?;
        }
        Ok(directory)
    }
}

/// # Safety
///
/// `kobject` must be that of an `Object<T>`, and be in sysfs.
unsafe fn add_group<T>(kobject: *mut bindings::kobject, group: &'static Group<T>) -> Result {
    let name = group.name.map_or(ptr::null(), CStr::as_char_ptr);
    if !name.is_null() {
        let mut none: [*mut bindings::attribute; 1] = [ptr::null_mut()];
        // SAFETY: A group without a name and files is valid as a value.
        let mut directory: bindings::attribute_group = unsafe { MaybeUninit::zeroed().assume_init() };
        directory.name = name;
        directory.attrs = none.as_mut_ptr();
        // SAFETY: The group, which has no files yet, is looked at during the call only, and its name is copied.
        to_result(unsafe { bindings::sysfs_create_group(kobject, &raw const directory) })?;
    }
    for attribute in group.attributes {
        // SAFETY: The attribute is static, and of the type that `show_callback` takes; the group, if it has a name, is there.
        to_result(unsafe { bindings::sysfs_add_file_to_group(kobject, attribute.as_ptr(), name) })?;
    }
    Ok(())
}

impl<T: Send + Sync + 'static> Drop for Directory<T> {
    fn drop(&mut self) {
        // SAFETY: By the type invariants the kobject is initialised, and the reference is this value's. Removing it waits for who
        // is in `show_callback`.
        unsafe {
            bindings::kobject_del(self.0.kobject.get());
            bindings::kobject_put(self.0.kobject.get());
        }
        // Somebody else may have a reference; it is to the memory that goes next.
        self.0.released.wait();
    }
}

struct Table<T>(PhantomData<T>);

impl<T: Send + Sync + 'static> Table<T> {
    const OPERATIONS: &'static bindings::sysfs_ops =
        &bindings::sysfs_ops { show: Some(Self::show_callback), store: None };
    const TYPE: &'static bindings::kobj_type = &{
        // SAFETY: A type without functions is valid.
        let mut table: bindings::kobj_type = unsafe { MaybeUninit::zeroed().assume_init() };
        table.release = Some(Self::release_callback);
        table.sysfs_ops = Self::OPERATIONS;
        table
    };

    /// # Safety
    ///
    /// Called by sysfs only, for the kobject of an `Object<T>` and an attribute that was given for it, with a page to write to.
    unsafe extern "C" fn show_callback(
        kobject: *mut bindings::kobject,
        attribute: *mut bindings::attribute,
        page: *mut ffi::c_char,
    ) -> isize {
        // SAFETY: Kobject and attribute stand first in what they are part of, which stays while sysfs has the file open for this call.
        let (object, attribute) =
            unsafe { (&*kobject.cast::<Object<T>>(), &*attribute.cast::<Attribute<T>>()) };
        // INVARIANT: The page is this call's, and nothing is written yet.
        let mut text = Text { page, bytes: 0, _page: PhantomData };
        match (attribute.show)(&object.data, &mut text) {
            Ok(()) => text.bytes as isize,
            Err(error) => error.to_errno() as isize,
        }
    }

    /// # Safety
    ///
    /// Called once, for the kobject of an `Object<T>` to which there is no reference any more.
    unsafe extern "C" fn release_callback(kobject: *mut bindings::kobject) {
        // SAFETY: The kobject stands first in the object, which its owner keeps until this completion.
        unsafe { (*kobject.cast::<Object<T>>()).released.complete() };
    }
}
