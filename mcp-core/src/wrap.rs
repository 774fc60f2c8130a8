/// Gives a layer's service the usual ways to the service inside. For an `impl` of a type with a field `inner: S`.
///
/// # Examples
///
/// ```
/// struct Counted<S> {
///     inner: S,
/// }
///
/// impl<S> Counted<S> {
///     mcp_core::inner_service!();
/// }
///
/// assert_eq!(Counted { inner: 7 }.into_inner(), 7);
/// ```
#[macro_export]
macro_rules! inner_service {
    () => {
        /// Returns the service inside.
        pub const fn get_ref(&self) -> &S {
            &self.inner
        }

        /// Returns the service inside.
        pub const fn get_mut(&mut self) -> &mut S {
            &mut self.inner
        }

        /// Returns the service inside, giving up the rest.
        pub fn into_inner(self) -> S {
            self.inner
        }
    };
}
