//! What every service here has beside its own.

/// The usual ways to the inner service. For an `impl` of a type with a field `inner: S`.
macro_rules! inner_service {
    () => {
        /// The inner service.
        pub const fn get_ref(&self) -> &S {
            &self.inner
        }

        /// The inner service.
        pub const fn get_mut(&mut self) -> &mut S {
            &mut self.inner
        }

        /// The inner service.
        pub fn into_inner(self) -> S {
            self.inner
        }
    };
}
