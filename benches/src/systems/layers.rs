pub fn all() -> impl Iterator<Item = &'static dyn crate::systems::System> {
    std::iter::empty()
}
