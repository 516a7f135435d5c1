//! Which connections a client's requests go through while any of them is in flight there.

use crate::config::model::ServerId;
use crate::engine::ids::LinkId;

/// The connection that a client's requests to a server go through while any of them is in flight there: on two, they could
/// overtake each other.
#[derive(Debug, Clone, Copy)]
struct Route {
    server: ServerId,
    link: LinkId,
    in_flight: u32,
}

/// The ways of one client. Kept only where a server has several connections.
#[derive(Debug, Default)]
pub(crate) struct Routes {
    routes: Vec<Route>,
}

impl Routes {
    /// The connection to a server that is in use, of those that are fit. What is in flight may be of the database that the
    /// client has left, answered long ago by its deadline.
    pub(in crate::engine) fn in_use(&self, server: ServerId, is_fit: impl Fn(LinkId) -> bool) -> Option<LinkId> {
        let known = self.routes.iter().find(|route| route.server == server && is_fit(route.link));
        known.filter(|route| route.in_flight > 0).map(|route| route.link)
    }

    /// Another connection to a server is used from here on, in the place of what was used of those that are fit.
    pub(in crate::engine) fn choose(&mut self, server: ServerId, link: LinkId, is_fit: impl Fn(LinkId) -> bool) {
        let route = Route { server, link, in_flight: 0 };
        match self.routes.iter_mut().find(|route| route.server == server && is_fit(route.link)) {
            Some(known) => *known = route,
            None => self.routes.push(route),
        }
    }

    /// A request of the client goes out on a connection.
    #[inline]
    pub(in crate::engine) fn enter(&mut self, link: LinkId) {
        if let Some(route) = self.of(link) {
            route.in_flight += 1;
        }
    }

    /// A request of the client is in flight there no longer.
    #[inline]
    pub(in crate::engine) fn leave(&mut self, link: LinkId) {
        if let Some(route) = self.of(link) {
            route.in_flight = route.in_flight.saturating_sub(1);
        }
    }

    #[inline]
    fn of(&mut self, link: LinkId) -> Option<&mut Route> {
        self.routes.iter_mut().find(|route| route.link == link)
    }
}
