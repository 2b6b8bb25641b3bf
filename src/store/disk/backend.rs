//! What every backend under redb needs to know of it.

/// redb's page.
pub(in crate::store) const PAGE_BYTES: usize = 4096;

/// The methods of a backend that lock ranges: those of its field.
macro_rules! forward_locks {
    ($field:ident) => {
        $crate::store::disk::backend::forward_locks! { $field,
            try_lock_range -> bool,
            try_lock_shared_range -> bool,
            lock_range -> (),
            lock_shared_range -> (),
            unlock_range -> (),
            query_lock_range -> bool,
        }
    };
    ($field:ident, $($method:ident -> $answer:ty,)*) => {
        $(fn $method(
            &self,
            start: std::ops::Bound<u64>,
            end: std::ops::Bound<u64>,
        ) -> Result<$answer, redb::BackendError> {
            self.$field.$method(start, end)
        })*
    };
}
pub(super) use forward_locks;
