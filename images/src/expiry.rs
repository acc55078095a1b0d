//! Which cached images have not been used for so long that they go.

use jiff::{SignedDuration, Timestamp};

/// What of an image decides whether it goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CachedImage {
    /// Whether it is here only because an instance was made from it; others never go by themselves.
    pub cached: bool,
    /// When an instance was last made from it.
    pub last_used_at: Option<Timestamp>,
    /// When it came.
    pub uploaded_at: Timestamp,
}

/// The rule of `images.remote_cache_expiry`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CacheExpiry {
    days: u32,
}

impl CacheExpiry {
    /// An image goes when it was not used for `days` days; 0 keeps all.
    ///
    /// ```
    /// use larder_images::{CacheExpiry, CachedImage};
    /// let uploaded_at = "2026-01-01T00:00:00Z".parse().unwrap();
    /// let image = CachedImage { cached: true, last_used_at: None, uploaded_at };
    /// assert_eq!(CacheExpiry::after_days(10).goes_at(&image), Some("2026-01-11T00:00:00Z".parse().unwrap()));
    /// assert_eq!(CacheExpiry::after_days(0).goes_at(&image), None);
    /// ```
    pub fn after_days(days: u32) -> Self {
        Self { days }
    }

    /// When the image goes if it is not used until then; `None` when it stays.
    pub fn goes_at(self, image: &CachedImage) -> Option<Timestamp> {
        if !image.cached || self.days == 0 {
            return None;
        }
        let used = image.last_used_at.map_or(image.uploaded_at, |used| used.max(image.uploaded_at));
        let wait = SignedDuration::from_hours(i64::from(self.days) * 24);
        // Past the end of time is never.
        used.checked_add(wait).ok()
    }

    /// Which of `images` go now, by their place in the list.
    pub fn expired<'a>(
        self,
        images: impl IntoIterator<Item = &'a CachedImage>,
        now: Timestamp,
    ) -> Vec<usize> {
        let is_due = |image: &CachedImage| self.goes_at(image).is_some_and(|at| at <= now);
        images.into_iter().enumerate().filter(|(_, image)| is_due(image)).map(|(at, _)| at).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn day(day: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + day * 86_400).unwrap()
    }

    fn image(uploaded: i64, used: Option<i64>) -> CachedImage {
        CachedImage { cached: true, last_used_at: used.map(day), uploaded_at: day(uploaded) }
    }

    #[test]
    fn nine_days_stay_and_ten_go() {
        let rule = CacheExpiry::after_days(10);
        let images = [image(0, None), image(1, None), image(-30, Some(1)), image(-30, Some(0))];
        assert_eq!(rule.expired(&images, day(10)), [0, 3]);
        assert!(rule.expired(&images, day(10) - SignedDuration::from_secs(1)).is_empty());
        assert_eq!(rule.expired(&images, day(11)), [0, 1, 2, 3]);
    }

    #[test]
    fn what_is_not_cached_and_zero_days_stay() {
        let own = CachedImage { cached: false, ..image(-1000, None) };
        assert!(CacheExpiry::after_days(10).expired(&[own], day(0)).is_empty());
        assert!(CacheExpiry::after_days(0).expired(&[image(-1000, None)], day(0)).is_empty());
    }

    #[test]
    fn the_ends_of_time_are_no_panic() {
        let last = CachedImage { cached: true, last_used_at: None, uploaded_at: Timestamp::MAX };
        assert_eq!(CacheExpiry::after_days(u32::MAX).goes_at(&last), None);
        assert_eq!(CacheExpiry::after_days(u32::MAX).goes_at(&image(0, Some(-5))), None);
    }
}
