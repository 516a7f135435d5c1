from django.urls import path

from . import views

urlpatterns = [
    path("", views.home, name="home"),
    path("sign-in/", views.sign_in, name="sign-in"),
    path("product/<int:number>/", views.product, name="product"),
    path("prices/", views.prices, name="prices"),
    path("catalogue/<int:number>/", views.catalogue, name="catalogue"),
    path("report/<int:number>/", views.report, name="report"),
    path("clear/", views.clear, name="clear"),
]
